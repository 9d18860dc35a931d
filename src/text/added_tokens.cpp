#include "text/added_tokens.h"

#include <algorithm>

#include "base/error.h"
#include "text/unicode.h"

namespace smelt {

namespace {

// The last character before `pos`.
Utf8Char char_before(std::string_view text, size_t pos) {
    const char* const end = text.data() + pos;
    for (size_t n = 1; n <= 4 && n <= pos; ++n) {
        if ((static_cast<unsigned char>(*(end - n)) & 0xc0u) == 0x80) continue;
        const Utf8Char c = decode_utf8(end - n, end);
        if (static_cast<size_t>(c.length) == n) return c;
        break;
    }
    return {invalid_char, 1, false};
}

Utf8Char char_at(std::string_view text, size_t pos) {
    return decode_utf8(text.data() + pos, text.data() + text.size());
}

bool touches_word(std::string_view text, size_t begin, size_t end) {
    return (begin > 0 && is_word_char(char_before(text, begin).value)) ||
           (end < text.size() && is_word_char(char_at(text, end).value));
}

}  // namespace

void AddedTokenMatcher::insert(const AddedToken& token, std::string_view text) {
    if (text.size() > max_token_bytes) {
        throw Error("added token {} ({}): {} bytes, at most {} are accepted", token.id, show_token(text),
                    text.size(), max_token_bytes);
    }
    if (text.empty()) return;
    uint32_t node = 0;
    for (const char byte : text) {
        const uint64_t edge = uint64_t{node} << 8 | static_cast<unsigned char>(byte);
        const auto [it, added] = children_.try_emplace(edge, static_cast<uint32_t>(node_token_.size()));
        if (added) node_token_.push_back(-1);
        node = it->second;
    }
    if (node_token_[node] < 0) node_token_[node] = static_cast<int32_t>(tokens_.size());
    tokens_.push_back(token);
    starts_[static_cast<unsigned char>(text[0])] = true;
}

AddedTokenMatcher::Match AddedTokenMatcher::longest_at(std::string_view text, size_t begin) const {
    Match match;
    uint32_t node = 0;
    for (size_t i = begin; i < text.size(); ++i) {
        const auto child = children_.find(uint64_t{node} << 8 | static_cast<unsigned char>(text[i]));
        if (child == children_.end()) break;
        node = child->second;
        if (node_token_[node] >= 0) match = {i + 1 - begin, node_token_[node]};
    }
    return match;
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::split(std::string_view text, bool parse_special,
                                                              std::span<const size_t> plain_at) const {
    std::vector<Part> parts;
    size_t done = 0;
    const auto add = [&](size_t end, int32_t id) {
        if (end > done) parts.push_back({text.substr(done, end - done), id});
        done = end;
    };
    for (size_t i = 0; i < text.size();) {
        if (!starts_[static_cast<unsigned char>(text[i])]) {
            ++i;
            continue;
        }
        const Match match = longest_at(text, i);
        if (match.length == 0) {
            ++i;
            continue;
        }
        const AddedToken& token = tokens_[static_cast<size_t>(match.index)];
        size_t begin = i, end = i + match.length;
        i = end;
        if (token.special && !parse_special) continue;
        if (token.special && !plain_at.empty()) {
            const auto inside = std::ranges::upper_bound(plain_at, begin);
            if (inside != plain_at.end() && *inside < end) continue;
        }
        if (token.single_word && touches_word(text, begin, end)) continue;
        while (token.lstrip && begin > done) {
            const Utf8Char c = char_before(text, begin);
            if (!is_white_space(c.value)) break;
            begin -= static_cast<size_t>(c.length);
        }
        while (token.rstrip && end < text.size()) {
            const Utf8Char c = char_at(text, end);
            if (!is_white_space(c.value)) break;
            end += static_cast<size_t>(c.length);
        }
        add(begin, -1);
        add(end, token.id);
        i = end;
    }
    add(text.size(), -1);
    return parts;
}

}  // namespace smelt
