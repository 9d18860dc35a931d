// The form is checked here, since strtod takes more than a decimal number; the value is the C library's.
#include "base/number.h"

#include <locale.h>
#include <stdlib.h>
#if defined(__APPLE__)
#include <xlocale.h>
#endif

#include <algorithm>
#include <string>

namespace smelt {

namespace {

// Takes the digits in front off text; how many there were.
size_t take_digits(std::string_view& text) {
    const size_t n = std::min(text.find_first_not_of("0123456789"), text.size());
    text.remove_prefix(n);
    return n;
}

bool is_word(std::string_view text, std::string_view lower_case) {
    return std::ranges::equal(text, lower_case, {}, [](char c) { return c >= 'A' && c <= 'Z' ? c | 32 : c; });
}

bool is_decimal(std::string_view text) {
    if (text.starts_with('-')) text.remove_prefix(1);
    if (is_word(text, "inf") || is_word(text, "infinity") || is_word(text, "nan")) return true;
    size_t n_digits = take_digits(text);
    if (text.starts_with('.')) {
        text.remove_prefix(1);
        n_digits += take_digits(text);
    }
    if (n_digits == 0) return false;
    if (text.starts_with('e') || text.starts_with('E')) {
        text.remove_prefix(1);
        if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
        if (take_digits(text) == 0) return false;
    }
    return text.empty();
}

}  // namespace

std::optional<double> parse_real(std::string_view text) {
    if (!is_decimal(text)) return std::nullopt;
    static const locale_t c_locale = newlocale(LC_ALL_MASK, "C", nullptr);
    return strtod_l(std::string(text).c_str(), nullptr, c_locale);
}

}  // namespace smelt
