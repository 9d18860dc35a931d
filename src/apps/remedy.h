// The flag that helps with a failure of the rooms below, which know no flags.
#pragma once

#include <string>

namespace smelt {

// "; -c takes a smaller context", or "".
std::string remedy_for(const std::string& failure);

}  // namespace smelt
