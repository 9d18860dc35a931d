// The two failures that are not a request's: Error (bad file, bad option, missing device) is thrown and ends
// up as one line for the user; CHECK (a bug in smelt) prints the condition and its values and aborts, in
// release builds too.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>

namespace smelt {

// The text names the thing, what was expected and what was found:
// "blk.3.attn_q.weight: expected shape (4096, 4096), file has (4096, 1024)".
class Error : public std::runtime_error {
 public:
    explicit Error(const std::string& text) : std::runtime_error(text) {}

    template <class... Args>
    explicit Error(fmt::format_string<Args...> format, Args&&... args)
        : std::runtime_error(fmt::format(format, std::forward<Args>(args)...)) {}
};

[[noreturn]] void check_failed(const char* file, int line, const char* condition, const std::string& message);

// Never reachable from a file, an option or a request.
#define CHECK(condition, ...)                                                                   \
    do {                                                                                        \
        if (!(condition)) [[unlikely]]                                                          \
            ::smelt::check_failed(__FILE__, __LINE__, #condition, fmt::format("" __VA_ARGS__)); \
    } while (0)

}  // namespace smelt
