// Last words of a failed CHECK.
#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace smelt {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
    std::fprintf(stderr, "smelt: bug at %s:%d: CHECK(%s) failed. %s\n", file, line, condition,
                 message.c_str());
    std::fflush(stderr);
    std::abort();
}

}  // namespace smelt
