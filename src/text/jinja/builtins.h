// Filters, tests, methods and globals: found by name, called with arguments already matched to their
// parameters.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace smelt::jinja {

class Interpreter;

struct CallArguments {
    std::vector<Value> positional;
    std::vector<std::pair<std::string, Value>> named;
};

// `self` is the filtered or tested value, or the object of a method.
using Function = Value (*)(Interpreter& in, const Value& self, CallArguments& args);

struct Builtin {
    std::string_view name;
    // "old new count?": names in order, '?' marks what may be left out (then Kind::missing). A final '*'
    // takes more positional arguments, a final '**' any named ones.
    std::string_view parameters;
    Function function;  // null: a method that the sandbox refuses
};

// Matches the arguments to the parameters: afterwards `positional` has one value for each of them.
void bind(const Builtin& builtin, CallArguments& args);

const Builtin* find_filter(std::string_view name);
const Builtin* find_test(std::string_view name);
const Builtin* find_global(std::string_view name);
const Builtin* find_method(Kind kind, std::string_view name);

// str.replace(); limit < 0: all.
Value replace_text(Heap& heap, std::string_view text, std::string_view old, std::string_view replacement,
                   int64_t limit);

// Filters with a file of their own.
Value urlize(Interpreter& in, const Value& self, CallArguments& args);
Value pretty_print(Interpreter& in, const Value& self, CallArguments& args);

// The tables behind them, one per file.
std::span<const Builtin> string_filters();
std::span<const Builtin> value_filters();
std::span<const Builtin> sequence_filters();
std::span<const Builtin> markup_filters();
std::span<const Builtin> string_methods();

}  // namespace smelt::jinja
