// Cuts text into the pieces within which merges happen, as the regular expressions of a vocabulary say. The
// well-known expressions are written out by hand (linear, no backtracking); any other runs through PCRE2.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

// The well-known expressions. Each takes a non-empty text and returns the length of its first piece.
using NextPiece = size_t (*)(const char* begin, const char* end);
NextPiece known_pattern(std::string_view pattern);  // null: not known

class RegexSplitter {
 public:
    // Throws Error where it is no valid expression.
    explicit RegexSplitter(const std::string& pattern);
    ~RegexSplitter();
    RegexSplitter(RegexSplitter&&) noexcept;

    // Each text's matches and what is between them. Bytes that are not UTF-8 stand apart. Throws Error where
    // the expression takes too many steps.
    std::vector<std::string_view> split(const std::vector<std::string_view>& texts) const;

 private:
    struct Code;
    std::unique_ptr<Code> code_;
    std::string pattern_;
};

class PreTokenizer {
 public:
    explicit PreTokenizer(const std::vector<std::string>& patterns);

    // Calls each(piece) for all pieces in order; together they are the text.
    template <class F>
    void split(std::string_view text, F&& each) const {
        if (next_piece_ == nullptr) {
            for (const std::string_view piece : split_by_regex(text)) each(piece);
            return;
        }
        const char* p = text.data();
        const char* const end = p + text.size();
        while (p != end) {
            const size_t n = next_piece_(p, end);
            each(std::string_view(p, n));
            p += n;
        }
    }

 private:
    std::vector<std::string_view> split_by_regex(std::string_view text) const;

    NextPiece next_piece_ = nullptr;  // the only pattern is a known one
    std::vector<RegexSplitter> regexes_;
};

}  // namespace smelt
