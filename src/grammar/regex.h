// Regular expressions as a tree: ECMA-262's syntax without what no automaton has (lookaround, back
// references) and without word boundaries, flags and Unicode properties.
#pragma once

#include <string_view>

#include "grammar/expr.h"

namespace smelt::grammar {

enum class RegexMatch {
    whole,     // the text is what the pattern describes
    anywhere,  // somewhere in the text; ^ and $ tie it to begin and end
};

// Throws Refused that names the place in the pattern.
ExprPtr parse_regex(std::string_view pattern, RegexMatch match, int max_depth);

}  // namespace smelt::grammar
