// Python's three ways to format text: "%d" % x, "{:>5}".format(x), and the field specification they share.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/jinja/value.h"

namespace smelt::jinja {

using Named = std::vector<std::pair<std::string_view, Value>>;

Value percent_format(Heap& heap, const Value& format, const Value& arguments);

// format(value, specification) of "[[fill]align][sign][#][0][width][,][.precision][type]".
std::string format_value(Heap& heap, const Value& value, std::string_view specification);

// Looks up ".name" and "[key]" of a field, as the sandbox allows it.
using FieldLookup = Value (*)(void* context, const Value& object, std::string_view name, bool is_attribute);

Value brace_format(Heap& heap, std::string_view format, const std::vector<Value>& positional,
                   const Named& named, FieldLookup lookup, void* context);

}  // namespace smelt::jinja
