// Python's operators, containers and printed forms on template values. Every function that walks a value
// charges the heap for it; errors are Python's, as Raised.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "text/jinja/value.h"

namespace smelt::jinja {

// --- what a value is (ops.cpp)
std::string_view type_name(const Value& v);                 // type(v).__name__
std::string object_name(Kind kind, std::string_view type);  // as in "'dict object' has no attribute"
bool truth(Heap& heap, const Value& v);
inline bool is_number(const Value& v) {
    return v.is(Kind::integer) || v.is(Kind::real) || v.is(Kind::boolean) || v.is(Kind::big);
}
inline bool is_integral(const Value& v) {
    return v.is(Kind::integer) || v.is(Kind::boolean);
}
inline bool is_list_like(const Value& v) {
    return v.kind() >= Kind::list && v.kind() <= Kind::items;
}
double to_real(const Value& number);
// An index or a count: an integer or a boolean, otherwise TypeError.
int64_t expect_integer(const Value& v);
std::string_view expect_text(const Value& v, std::string_view what);
[[noreturn]] void fail_undefined(const Value& undefined);

// --- operators (ops.cpp)
enum class Arithmetic : uint8_t { add, subtract, multiply, divide, floor_divide, modulo, power };
enum class Comparison : uint8_t { equal, not_equal, less, less_equal, greater, greater_equal, in, not_in };

Value arithmetic(Heap& heap, Arithmetic op, const Value& a, const Value& b);
Value negate(const Value& v);
Value plus(const Value& v);
bool compare(Heap& heap, Comparison op, const Value& a, const Value& b);
bool equals(Heap& heap, const Value& a, const Value& b);
bool less(Heap& heap, const Value& a, const Value& b, std::string_view op = "<");
bool contains(Heap& heap, const Value& container, const Value& item);
bool same_object(const Value& a, const Value& b);  // Python's `is`

// --- containers (containers.cpp)
size_t hash(Heap& heap, const Value& v);
Value* dict_find(Heap& heap, Dict& dict, const Value& key);
Value* dict_find(Heap& heap, Dict& dict, std::string_view key);
void dict_set(Heap& heap, Dict& dict, const Value& key, Value value);
// len(): TypeError where there is none.
size_t length(Heap& heap, const Value& v);
// Everything that iteration gives; an iterator is spent by it.
std::vector<Value> iterate(Heap& heap, const Value& v);
bool is_iterable(const Value& v);
// v[key]; nothing where Python raises TypeError or LookupError.
std::optional<Value> subscript(Heap& heap, const Value& v, const Value& key);
// v[start:stop:step]; missing bounds are Kind::none.
Value slice(Heap& heap, const Value& v, const Value& start, const Value& stop, const Value& step);
// Stable; the comparisons may raise. key(i) was computed by the caller: keys[i] orders items[i].
std::vector<Value> sorted(Heap& heap, const std::vector<Value>& items, const std::vector<Value>& keys,
                          bool reverse);
Value from_json(Heap& heap, const Json& json);
int64_t string_length(Heap& heap, const Value& s);                                      // in code points
std::string_view string_slice(Heap& heap, const Value& s, int64_t begin, int64_t end);  // begin <= end

// --- printed forms (print.cpp)
std::string real_repr(double d);
void append_repr(StringBuilder& out, std::string_view text);
void print(Heap& heap, StringBuilder& out, const Value& v);       // str()
void print_repr(Heap& heap, StringBuilder& out, const Value& v);  // repr()
std::string to_text(Heap& heap, const Value& v);                  // str()
std::string text_repr(std::string_view text);                     // repr() of a string
std::string escape_html(Heap& heap, std::string_view text);

struct JsonStyle {
    bool ensure_ascii = false, sort_keys = false, indented = false;
    std::string indent, item_separator = ", ", key_separator = ": ";
};
std::string to_json(Heap& heap, const Value& v, const JsonStyle& style);

}  // namespace smelt::jinja
