// The values of `format` that are enforced.
#pragma once

#include <string_view>

#include "grammar/expr.h"

namespace smelt::grammar {

// Null: not known.
ExprPtr format_expr(std::string_view format);

}  // namespace smelt::grammar
