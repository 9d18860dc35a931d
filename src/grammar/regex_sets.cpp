// Unicode properties and case. PCRE2 knows the properties: it is asked about a text of all characters.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <utf8proc.h>

#include <algorithm>
#include <memory>

#include "grammar/budget.h"
#include "grammar/regex.h"

namespace smelt::grammar {

namespace {

constexpr size_t steps_for_all_chars = 3'000'000;  // a look at each: 30 ms

struct Long {
    std::string_view name, value;
};
// PCRE2 has the short names alone.
constexpr Long categories[] = {{"letter", "L"},
                               {"casedletter", "L&"},
                               {"uppercaseletter", "Lu"},
                               {"lowercaseletter", "Ll"},
                               {"titlecaseletter", "Lt"},
                               {"modifierletter", "Lm"},
                               {"otherletter", "Lo"},
                               {"mark", "M"},
                               {"combiningmark", "M"},
                               {"nonspacingmark", "Mn"},
                               {"spacingmark", "Mc"},
                               {"enclosingmark", "Me"},
                               {"number", "N"},
                               {"decimalnumber", "Nd"},
                               {"digit", "Nd"},
                               {"letternumber", "Nl"},
                               {"othernumber", "No"},
                               {"punctuation", "P"},
                               {"punct", "P"},
                               {"connectorpunctuation", "Pc"},
                               {"dashpunctuation", "Pd"},
                               {"openpunctuation", "Ps"},
                               {"closepunctuation", "Pe"},
                               {"initialpunctuation", "Pi"},
                               {"finalpunctuation", "Pf"},
                               {"otherpunctuation", "Po"},
                               {"symbol", "S"},
                               {"mathsymbol", "Sm"},
                               {"currencysymbol", "Sc"},
                               {"modifiersymbol", "Sk"},
                               {"othersymbol", "So"},
                               {"separator", "Z"},
                               {"spaceseparator", "Zs"},
                               {"lineseparator", "Zl"},
                               {"paragraphseparator", "Zp"},
                               {"other", "C"},
                               {"control", "Cc"},
                               {"cntrl", "Cc"},
                               {"format", "Cf"},
                               {"privateuse", "Co"},
                               {"unassigned", "Cn"},
                               {"lc", "L&"}};

// Names are compared without case, blanks, - and _ (UAX 44).
std::string plain(std::string_view name) {
    std::string out;
    for (const char c : name) {
        if (c == ' ' || c == '-' || c == '_') continue;
        out += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    return out;
}

std::string pcre_name(std::string_view name) {
    const size_t equals = std::min(name.find('='), name.size());
    const std::string key = plain(name.substr(0, equals));
    std::string value = equals < name.size() ? plain(name.substr(equals + 1)) : key;
    for (const Long& c : categories) {
        if (c.name == value) value = c.value;
    }
    if (equals == name.size() || key == "gc" || key == "generalcategory") return value;
    if (key == "script" || key == "sc") return "sc:" + value;
    if (key == "scriptextensions" || key == "scx") return "scx:" + value;
    return "";
}

std::string all_chars() {
    std::string text;
    text.reserve(size_t{4} << 20);
    for (const auto& [lo, hi] : CharSet::all().ranges()) {
        for (char32_t c = lo; c <= hi; ++c) {
            utf8proc_uint8_t bytes[4];
            const auto n = utf8proc_encode_char(static_cast<utf8proc_int32_t>(c), bytes);
            text.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
        }
    }
    return text;
}

char32_t char_at(const std::string& text, size_t at) {
    utf8proc_int32_t c = 0;
    utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()) + at,
                     static_cast<utf8proc_ssize_t>(text.size() - at), &c);
    return static_cast<char32_t>(c);
}

char32_t upper(char32_t c) {
    return static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(c)));
}
char32_t lower(char32_t c) {
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
}

}  // namespace

bool property_chars(std::string_view name, CharSet& set, Budget& budget) {
    const std::string known = pcre_name(name);
    if (known.empty() || known.size() > 60 ||
        known.find_first_not_of("abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789:&") != std::string::npos) {
        return false;
    }
    if (known == "ascii") {
        set = {{0, 0x7f}};
        return true;
    }
    budget.spend(steps_for_all_chars);
    const std::string pattern = "\\p{" + known + "}+";
    int error = 0;
    PCRE2_SIZE offset = 0;
    const std::unique_ptr<pcre2_code, decltype(&pcre2_code_free)> code(
        pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(), PCRE2_UTF | PCRE2_UCP,
                      &error, &offset, nullptr),
        pcre2_code_free);
    if (code == nullptr) return false;
    const std::unique_ptr<pcre2_match_data, decltype(&pcre2_match_data_free)> match(
        pcre2_match_data_create(1, nullptr), pcre2_match_data_free);
    if (match == nullptr) throw std::bad_alloc();
    const std::string text = all_chars();
    set = {};
    for (size_t at = 0; pcre2_match(code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), at,
                                    PCRE2_NO_UTF_CHECK, match.get(), nullptr) > 0;) {
        const PCRE2_SIZE* const found = pcre2_get_ovector_pointer(match.get());
        size_t last = found[1] - 1;
        while ((static_cast<unsigned char>(text[last]) & 0xc0) == 0x80) --last;
        const char32_t lo = char_at(text, found[0]), hi = char_at(text, last);
        // The text jumps over the surrogates.
        set.add(CharSet({{lo, hi}}).intersection(CharSet::all()));
        at = found[1];
    }
    return true;
}

CharSet any_case(const CharSet& set, Budget& budget) {
    CharSet all = set;
    for (const auto& [lo, hi] : set.ranges()) {
        budget.spend(2 * (hi - lo + 1));
        for (char32_t c = lo; c <= hi; ++c) {
            for (const char32_t other : {lower(c), upper(c), lower(upper(c)), upper(lower(c))}) {
                if (other == c || all.contains(other)) continue;
                budget.spend(all.ranges().size());
                all.add(other, other);
            }
        }
    }
    return all;
}

}  // namespace smelt::grammar
