// llama.cpp's grammar notation: rules "name ::= ...", literals, classes, groups, | * + ? {m,n} and comments.
#pragma once

#include <string_view>

#include "grammar/builder.h"

namespace smelt::grammar {

// The rule `root`. Throws Refused that names the line.
ExprPtr parse_gbnf(std::string_view text, Builder& builder);

}  // namespace smelt::grammar
