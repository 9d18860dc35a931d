// All of standard input as bytes.
#pragma once

#include <cstdio>
#include <string>

#include "base/error.h"

namespace smelt {

inline std::string read_stdin() {
    std::string text;
    char buffer[1 << 16];
    while (const size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) text.append(buffer, n);
    if (std::ferror(stdin)) throw Error("standard input: cannot be read");
    return text;
}

}  // namespace smelt
