// The values of `format` that are enforced.
#pragma once

#include <string_view>

#include "grammar/expr.h"

namespace smelt::grammar {

// Null: not known. Keeps to the lengths where it easily can.
ExprPtr format_expr(std::string_view format, const LengthRange& lengths);

}  // namespace smelt::grammar
