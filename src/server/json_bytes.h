// What a body that has not been read yet will take as a value.
#pragma once

#include <cstddef>
#include <string_view>

namespace smelt {

// About as many bytes as its values and what is made of their texts take: a quick look, which understands
// nothing.
size_t json_bytes(std::string_view text);

}  // namespace smelt
