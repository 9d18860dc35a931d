// The known patterns by hand. Each alternative of the expression is a stage, in the expression's order.
#include "text/pre_tokenizer.h"

#include "text/unicode.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

struct Class {
    CharClass value;
    int length;
};

Class class_at(const char* p, const char* end) {
    const Utf8Char c = decode_utf8(p, end);
    return {classify(c.value), c.length};
}

// End of the run of characters of class `wanted` that begins at p.
const char* skip(const char* p, const char* end, CharClass wanted) {
    while (p != end) {
        const Class c = class_at(p, end);
        if (c.value != wanted) break;
        p += c.length;
    }
    return p;
}

// 's 't 're 've 'm 'll 'd at an apostrophe; 0: none of them.
size_t contraction(const char* p, const char* end, bool ignore_case) {
    const auto letter = [&](int i) {
        if (end - p <= i) return '\0';
        return ignore_case && p[i] >= 'A' && p[i] <= 'Z' ? static_cast<char>(p[i] - 'A' + 'a') : p[i];
    };
    switch (letter(1)) {
        case 's':
        case 't':
        case 'm':
        case 'd':
            return 2;
        case 'r':
        case 'v':
            return letter(2) == 'e' ? 3 : 0;
        case 'l':
            return letter(2) == 'l' ? 3 : 0;
        case '\xc5':  // U+017F, the long s, is an s where case is ignored
            return ignore_case && letter(2) == '\xbf' ? 3 : 0;
        default:
            return 0;
    }
}

// \s+(?!\S)|\s+ at white space: leaves the last character to what follows, unless nothing does.
const char* white_space(const char* p, const char* end) {
    const char* last = p;
    while (p != end) {
        const Class c = class_at(p, end);
        if (c.value < CharClass::space) return last;
        last = p;
        p += c.length;
    }
    return end;
}

size_t gpt2_piece(const char* const begin, const char* const end) {
    if (*begin == '\'') {
        if (const size_t n = contraction(begin, end, false); n > 0) return n;
    }

    //  ?\p{L}+ |  ?\p{N}+ |  ?[^\s\p{L}\p{N}]+
    const char* const p = *begin == ' ' && begin + 1 != end ? begin + 1 : begin;
    const Class c = class_at(p, end);
    if (c.value < CharClass::space) {
        return static_cast<size_t>(skip(p + c.length, end, c.value) - begin);
    }

    const char* const stop = white_space(begin, end);
    if (stop != begin) return static_cast<size_t>(stop - begin);
    return static_cast<size_t>(class_at(begin, end).length);
}

template <int max_digits>
size_t cl100k_piece(const char* const begin, const char* const end) {
    if (*begin == '\'') {
        if (const size_t n = contraction(begin, end, true); n > 0) return n;
    }

    // [^\r\n\p{L}\p{N}]?\p{L}+
    const Class first = class_at(begin, end);
    const char* const second = begin + first.length;
    if (first.value == CharClass::letter) {
        return static_cast<size_t>(skip(second, end, CharClass::letter) - begin);
    }
    const Class next = second == end ? Class{CharClass::newline, 0} : class_at(second, end);
    if ((first.value == CharClass::other || first.value == CharClass::space) &&
        next.value == CharClass::letter) {
        return static_cast<size_t>(skip(second + next.length, end, CharClass::letter) - begin);
    }

    // \p{N}{1,max_digits}
    if (first.value == CharClass::number) {
        const char* p = second;
        for (int n = 1; n < max_digits && p != end; ++n) {
            const Class c = class_at(p, end);
            if (c.value != CharClass::number) break;
            p += c.length;
        }
        return static_cast<size_t>(p - begin);
    }

    //  ?[^\s\p{L}\p{N}]+[\r\n]*
    if (first.value == CharClass::other || (*begin == ' ' && next.value == CharClass::other)) {
        const char* const p = skip(second, end, CharClass::other);
        return static_cast<size_t>(skip(p, end, CharClass::newline) - begin);
    }

    // \s*[\r\n]+ up to the last line break of the white space
    const char* line_end = nullptr;
    for (const char* p = begin; p != end;) {
        const Class c = class_at(p, end);
        if (c.value < CharClass::space) break;
        p += c.length;
        if (c.value == CharClass::newline) line_end = p;
    }
    if (line_end != nullptr) return static_cast<size_t>(line_end - begin);

    const char* const stop = white_space(begin, end);
    if (stop != begin) return static_cast<size_t>(stop - begin);
    return static_cast<size_t>(first.length);
}

}  // namespace

NextPiece known_pattern(std::string_view pattern) {
    if (pattern == gpt2_pattern) return gpt2_piece;
    if (pattern == llama3_pattern) return cl100k_piece<3>;
    if (pattern == qwen2_pattern) return cl100k_piece<1>;
    return nullptr;
}

PreTokenizer::PreTokenizer(const std::vector<std::string>& patterns) {
    if (patterns.size() == 1) next_piece_ = known_pattern(patterns[0]);
    if (next_piece_ != nullptr) return;
    for (const std::string& pattern : patterns) regexes_.emplace_back(pattern);
}

std::vector<std::string_view> PreTokenizer::split_by_regex(std::string_view text) const {
    std::vector<std::string_view> pieces = {text};
    for (const RegexSplitter& regex : regexes_) pieces = regex.split(pieces);
    return pieces;
}

}  // namespace smelt
