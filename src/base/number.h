// Text to numbers, the same in every locale and with every C++ library: libc++ has std::from_chars of
// floating-point numbers from version 20 on. Not for numbers that are the beginning of a longer text.
#pragma once

#include <charconv>
#include <concepts>
#include <optional>
#include <string_view>
#include <system_error>

namespace smelt {

// The integer that all of text is; a sign only where it is '-', neither spaces nor prefixes; none where it
// does not fit.
template <std::integral Int>
std::optional<Int> parse_integer(std::string_view text, int base = 10) {
    Int value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
    return value;
}

// The decimal number that all of text is: -1.5e-3, .5, 5., also inf, infinity and nan in any case. No '+' in
// front, spaces or hexadecimal digits. Too large is infinity, too small is zero.
std::optional<double> parse_real(std::string_view text);

}  // namespace smelt
