// The text form of protobuf messages, as config.pbtxt has it, read into the JSON that Triton makes of it.
// Knows which fields of Triton's ModelConfig are lists and maps, and nothing else of them.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace smelt {

// Throws Error: `source` with the line, what was expected and what was found; a field that is there twice.
Json parse_text_protobuf(std::string_view text, const std::string& source);

// "quoted", with escapes.
std::string text_protobuf_string(std::string_view text);

}  // namespace smelt
