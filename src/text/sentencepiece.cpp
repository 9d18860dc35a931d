#include "text/sentencepiece.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/number.h"
#include "text/bpe.h"
#include "text/unicode.h"

namespace smelt {

namespace {

std::string replaced(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    for (size_t at = 0; (at = text.find(from)) != std::string_view::npos;) {
        out.append(text.substr(0, at)).append(to);
        text.remove_prefix(at + from.size());
    }
    return out.append(text);
}

}  // namespace

std::string spell_spaces(std::string_view text) {
    return replaced(text, " ", space_mark);
}

std::string unspell_spaces(std::string_view spelling) {
    return replaced(spelling, space_mark, " ");
}

std::string spell_byte(unsigned char byte) {
    return fmt::format("<0x{:02X}>", byte);
}

std::optional<char> unspell_byte(std::string_view spelling) {
    if (spelling.size() != 6 || !spelling.starts_with("<0x") || spelling[5] != '>') return std::nullopt;
    const auto value = parse_integer<unsigned>(spelling.substr(3, 2), 16);
    if (!value) return std::nullopt;
    return static_cast<char>(*value);
}

std::string sentencepiece_spelling(const Vocabulary& v, int32_t id) {
    const std::string& token = v.tokens[static_cast<size_t>(id)];
    switch (v.types[static_cast<size_t>(id)]) {
        case TokenType::normal:
            return spell_spaces(token);
        case TokenType::byte:
            return spell_byte(static_cast<unsigned char>(token[0]));
        default:
            return token;
    }
}

std::vector<Merge> merges_by_score(const Vocabulary& v) {
    // Cutting a token at every place takes the square of its length; real ones have up to 100 bytes.
    constexpr size_t longest = 1024;
    TokenTable table(v.tokens);
    const auto is_normal = [&](size_t id) {
        return v.types[id] == TokenType::normal && !v.tokens[id].empty() && v.tokens[id].size() <= longest;
    };
    for (size_t id = 0; id < v.tokens.size(); ++id) {
        if (is_normal(id)) table.insert(static_cast<int32_t>(id));
    }
    std::vector<Merge> merges;
    for (size_t id = 0; id < v.tokens.size(); ++id) {
        if (!is_normal(id)) continue;
        const std::string_view token = v.tokens[id];
        const char* const end = token.data() + token.size();
        for (const char* p = token.data(); (p += decode_utf8(p, end).length) != end;) {
            const auto n = static_cast<size_t>(p - token.data());
            const int32_t left = table.find(token.substr(0, n));
            const int32_t right = left < 0 ? -1 : table.find(token.substr(n));
            if (right >= 0) merges.push_back({left, right, static_cast<int32_t>(id)});
        }
    }
    std::ranges::stable_sort(merges, std::ranges::greater{},
                             [&](const Merge& m) { return v.scores[static_cast<size_t>(m.result)]; });
    return merges;
}

}  // namespace smelt
