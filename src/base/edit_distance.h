// How far apart two words are, for "did you mean ...?". Knows no flags and no fields.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace smelt {

// How many letters must be added, left out, changed or swapped with the next to make b of a; at_most + 1
// where it is more. The work is bounded by the shorter word and at_most, so a word may come from anywhere.
size_t edit_distance(std::string_view a, std::string_view b, size_t at_most);

// The candidate that somebody who wrote `word` most likely meant; "" where none is near. A candidate that
// begins with the word counts as near, and '_' is the same as '-'.
std::string nearest_word(std::string_view word, std::span<const std::string> candidates);

}  // namespace smelt
