// Regular expressions as a tree: ECMA-262's syntax with what other languages have beside it (flags, named
// groups, \A and \Z), without what no automaton has: back references, atomic groups, possessive quantifiers.
#pragma once

#include <string_view>

#include "grammar/expr.h"

namespace smelt::grammar {

class Budget;

enum class RegexMatch {
    whole,     // the text is what the pattern describes
    anywhere,  // somewhere in the text
};

// Throws Refused that names the place in the pattern. The tree has no assertions any more.
ExprPtr parse_regex(std::string_view pattern, RegexMatch match, Budget& budget);

const CharSet& regex_word_chars();  // \w
const CharSet& regex_line_ends();   // what . does not match

// --- regex_sets.cpp ---
// Characters with a Unicode property, as \p{...} names it. False: not known.
bool property_chars(std::string_view name, CharSet& set, Budget& budget);
// With those that differ in case alone.
CharSet any_case(const CharSet& set, Budget& budget);

}  // namespace smelt::grammar
