// Which smelt this is.
#pragma once

#include <string>

namespace smelt {

inline std::string version() {
    return SMELT_VERSION;
}

}  // namespace smelt
