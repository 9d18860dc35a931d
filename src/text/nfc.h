// Unicode normalisation form C in linear time, whatever the text: also long runs of combining marks.
#pragma once

#include <string>
#include <string_view>

namespace smelt {

// `text` itself where it is visibly in NFC, else `buffer` with the normal form. Bytes that are not UTF-8 stay
// as they are and separate what is around them.
std::string_view nfc(std::string_view text, std::string& buffer);

}  // namespace smelt
