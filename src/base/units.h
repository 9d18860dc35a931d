// Numbers as people read them: in the units of what is counted.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <string>

namespace smelt {

// Powers of a thousand: "46.2 MB".
inline std::string bytes_text(uint64_t n) {
    constexpr std::array units = {"B", "kB", "MB", "GB", "TB"};
    auto value = static_cast<double>(n);
    size_t unit = 0;
    while (value >= 999.95 && unit + 1 < units.size()) {
        value /= 1000;
        ++unit;
    }
    return unit == 0 ? fmt::format("{} B", n) : fmt::format("{:.1f} {}", value, units[unit]);
}

// Weights of a model: "596.0 million", "8.19 billion".
inline std::string count_text(uint64_t n) {
    const auto value = static_cast<double>(n);
    if (value >= 1e9) return fmt::format("{:.2f} billion", value / 1e9);
    if (value >= 1e6) return fmt::format("{:.1f} million", value / 1e6);
    return std::to_string(n);
}

}  // namespace smelt
