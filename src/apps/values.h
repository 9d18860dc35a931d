// Checks of the values of options, in words. CLI11's own print ranges in brackets and speak of conversions.
#pragma once

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <concepts>
#include <limits>
#include <string>

#include "base/number.h"

namespace smelt {

// "expected a whole number, 0 to 1024, found \"warm\""; larger bounds are no news to anybody.
template <std::integral Int>
CLI::Validator in_range(Int min, Int max) {
    const auto check = [min, max](const std::string& text) -> std::string {
        const auto n = parse_integer<int64_t>(text);
        if (n && *n >= static_cast<int64_t>(min) && *n <= static_cast<int64_t>(max)) return {};
        const bool endless = max >= (1 << 30);
        return fmt::format("expected a whole number, {}{}, found \"{}\"", min,
                           endless ? " or more" : fmt::format(" to {}", max), text);
    };
    return {check, "", ""};
}

inline CLI::Validator in_range(double min, double max) {
    const auto check = [min, max](const std::string& text) -> std::string {
        const auto x = parse_real(text);
        if (x && *x >= min && *x <= max) return {};
        return fmt::format("expected a number, {} to {}, found \"{}\"", min, max, text);
    };
    return {check, "", ""};
}

// An empty name is the unset variable of a script.
inline CLI::Validator named_file() {
    const auto check = [](const std::string& path) {
        return path.empty() ? std::string("expected a file, found an empty name") : std::string();
    };
    return {check, "", ""};
}

}  // namespace smelt
