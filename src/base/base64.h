// Bytes out of base64 text.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace smelt {

// The usual alphabet or that of URLs, with or without padding; line breaks and blanks count for nothing.
// None: it is no base64.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace smelt
