// English and a little code for those who give no text of their own: parts of smelt's documents, which
// cmake/embed.cmake puts into the binary.
#pragma once

#include <string_view>

namespace smelt {

std::string_view calibration_text();  // docs/SERVER.md, docs/METAL.md, docs/GRAMMARS.md, docs/LIBRARY.md
std::string_view evaluation_text();   // docs/ARCHITECTURE.md: no part of the other

}  // namespace smelt
