// How SentencePiece vocabularies spell their tokens, "▁" for a space and "<0x0A>" for a byte, and how their
// scores order merges.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace smelt {

inline constexpr std::string_view space_mark = "\xe2\x96\x81";  // ▁

std::string spell_spaces(std::string_view text);        // " " -> "▁"
std::string unspell_spaces(std::string_view spelling);  // "▁" -> " "

std::string spell_byte(unsigned char byte);
std::optional<char> unspell_byte(std::string_view spelling);

// A token as such a vocabulary spells it, by its type.
std::string sentencepiece_spelling(const Vocabulary& v, int32_t id);

// All pairs of normal tokens that make another one, by falling score of that one.
std::vector<Merge> merges_by_score(const Vocabulary& v);

}  // namespace smelt
