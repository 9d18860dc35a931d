// The values of `format` that are enforced.
#pragma once

#include <string_view>

#include "grammar/expr.h"

namespace smelt::grammar {

class Budget;

// Null: not known. Keeps to the lengths where it easily can.
ExprPtr format_expr(std::string_view format, const LengthRange& lengths, Budget& budget);

}  // namespace smelt::grammar
