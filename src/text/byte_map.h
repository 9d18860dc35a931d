// The map of byte-level BPE between bytes and printable characters ("Ġthe" is " the"): how vocabularies in
// JSON and GGUF spell tokens that need not be UTF-8.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace smelt {

// Bytes -> the spelling in a vocabulary.
std::string spell_bytes(std::string_view bytes);

// The spelling -> bytes; nullopt where it has a character outside the map.
std::optional<std::string> unspell_bytes(std::string_view spelling);

// The same, but characters outside the map stand for themselves.
std::string unspell_bytes_or_keep(std::string_view spelling);

}  // namespace smelt
