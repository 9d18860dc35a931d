// The patterns that are written out by hand against PCRE2 running the real expressions.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>
#include <pcre2.h>
#include <utf8proc.h>

#include "base/error.h"
#include "text/text_support.h"

namespace smelt {
namespace {

constexpr std::string_view patterns[] = {gpt2_pattern, llama3_pattern, qwen2_pattern};

std::vector<std::string_view> pieces_of(const PreTokenizer& by_hand, std::string_view text) {
    std::vector<std::string_view> pieces;
    by_hand.split(text, [&](std::string_view piece) { pieces.push_back(piece); });
    return pieces;
}

// Which code points an expression for one character matches.
std::vector<bool> matching(const std::string& pattern) {
    int error = 0;
    PCRE2_SIZE offset = 0;
    pcre2_code* code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED, &error, &offset, nullptr);
    EXPECT_NE(code, nullptr);
    pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
    pcre2_match_data* match = pcre2_match_data_create(1, nullptr);
    std::vector<bool> result(0x110000);
    for (char32_t c = 0; c < 0x110000; ++c) {
        if (c >= 0xd800 && c < 0xe000) continue;
        std::string text;
        append_utf8(text, c);
        result[c] = pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0,
                                PCRE2_NO_UTF_CHECK, match, nullptr) > 0;
    }
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    return result;
}

// Characters of a Unicode version that one of the two libraries does not have yet.
const std::vector<bool>& known_to_one_library_only() {
    static const std::vector<bool> result = [] {
        std::vector<bool> unassigned = matching(R"(\p{Cn})");
        for (char32_t c = 0; c < 0x110000; ++c) {
            const bool here = utf8proc_category(static_cast<utf8proc_int32_t>(c)) == UTF8PROC_CATEGORY_CN;
            unassigned[c] = unassigned[c] != here;
        }
        return unassigned;
    }();
    return result;
}

TEST(CharClass, AgreesWithPcre2OnAllCodePoints) {
    const auto letters = matching(R"(\p{L})"), numbers = matching(R"(\p{N})"),
               spaces = matching(R"(\p{White_Space})"), newlines = matching(R"([\r\n])");
    for (char32_t c = 0; c < 0x110000; ++c) {
        if (known_to_one_library_only()[c] || (c >= 0xd800 && c < 0xe000)) continue;
        const CharClass expected = letters[c]    ? CharClass::letter
                                   : numbers[c]  ? CharClass::number
                                   : newlines[c] ? CharClass::newline
                                   : spaces[c]   ? CharClass::space
                                                 : CharClass::other;
        ASSERT_EQ(classify(c), expected) << "U+" << std::hex << static_cast<uint32_t>(c);
    }
}

TEST(PreTokenizer, KnownPatternsAgreeWithPcre2) {
    std::mt19937 rng(1);
    for (const std::string_view pattern : patterns) {
        ASSERT_NE(known_pattern(pattern), nullptr);
        const PreTokenizer by_hand({std::string(pattern)});
        const RegexSplitter oracle{std::string(pattern)};
        for (int i = 0; i < 20000; ++i) {
            std::string text;
            for (uint32_t n = rng() % 20; n > 0; --n) {
                const char32_t c = random_char(rng);
                if (!known_to_one_library_only()[c]) append_utf8(text, c);
            }
            ASSERT_EQ(pieces_of(by_hand, text), oracle.split({text})) << text;
        }
    }
}

// All texts of up to 6 characters that each alternative of the expressions looks at.
TEST(PreTokenizer, KnownPatternsAgreeWithPcre2OnAllShortTexts) {
    const std::string_view alphabet[] = {"s", " ", "\n", "1", "'", "\t", "\xc5\xbf"};
    for (const std::string_view pattern : patterns) {
        const PreTokenizer by_hand({std::string(pattern)});
        const RegexSplitter oracle{std::string(pattern)};
        std::vector<std::string> texts = {""};
        for (size_t i = 0; i < texts.size() && texts.size() < 20000; ++i) {
            for (const std::string_view c : alphabet) texts.push_back(texts[i] + std::string(c));
        }
        for (const std::string& text : texts) {
            ASSERT_EQ(pieces_of(by_hand, text), oracle.split({text})) << text;
        }
    }
}

TEST(PreTokenizer, PiecesAreTheTextWhateverTheBytes) {
    std::mt19937 rng(2);
    const std::string other = R"([a-m]+|\d{2})";
    for (int i = 0; i < 500; ++i) {
        const std::string text = random_bytes(rng, rng() % 30);
        for (const std::string& pattern : {std::string(gpt2_pattern), std::string(qwen2_pattern), other}) {
            std::string joined;
            for (const std::string_view piece : pieces_of(PreTokenizer({pattern}), text)) {
                ASSERT_FALSE(piece.empty());
                joined += piece;
            }
            ASSERT_EQ(joined, text);
        }
    }
}

// What gpt-oss's pattern makes of words: case, contractions, slashes, three digits.
TEST(PreTokenizer, O200kWords) {
    const PreTokenizer o200k({std::string(o200k_pattern)});
    EXPECT_EQ(pieces_of(o200k, "HelloWorld's HTTPServer, it'LL 12345 //\n a/b"),
              (std::vector<std::string_view>{"Hello", "World's", " HTTPServer", ",", " it'LL", " ", "123",
                                             "45", " //\n", " a", "/b"}));
    const PreTokenizer tekken({std::string(tekken_pattern)});
    EXPECT_EQ(pieces_of(tekken, "World's 123"),
              (std::vector<std::string_view>{"World", "'s", " ", "1", "2", "3"}));
}

// Their classes overlap, so that a matcher has to go back.
TEST(PreTokenizer, LongTextsThroughPcre2) {
    for (const std::string_view pattern : {o200k_pattern, tekken_pattern}) {
        const PreTokenizer splitter({std::string(pattern)});
        for (const std::string_view unit :
             {"a", "A", "Aa", "\xe4\xbd\xa0", "\xcc\x81", " ", "\n", "1", "'", "/"}) {
            std::string text, joined;
            while (text.size() < 1'000'000) text += unit;
            for (const std::string_view piece : pieces_of(splitter, text)) joined += piece;
            EXPECT_TRUE(joined == text) << unit;
        }
    }
}

TEST(PreTokenizer, PatternsApplyOneAfterTheOther) {
    const PreTokenizer two({R"(\p{N}{1,3})", "[a-z]+"});
    EXPECT_EQ(pieces_of(two, "ab12345c!!"), (std::vector<std::string_view>{"ab", "123", "45", "c", "!!"}));
}

// What Oniguruma and PCRE2 read otherwise: cut as Oniguruma cuts.
TEST(RegexSplitter, ReadsPatternsAsOnigurumaDoes) {
    const struct {
        const char *pattern, *text;
        std::vector<std::string_view> pieces;
    } cases[] = {
        // Intersections and nested classes.
        {"[a-z&&[^aeiou]]+", "hello", {"h", "e", "ll", "o"}},
        {"[^a-z&&[^aeiou]]+", "hello", {"h", "e", "ll", "o"}},
        {"[\\w&&[^\\d_]]+", "ab12_c", {"ab", "12_", "c"}},
        {"[a[bc]]+", "abcd", {"abc", "d"}},
        {"[^a[bc]]+", "abcde", {"abc", "de"}},
        {"[\\p{L}&&\\p{ASCII}]+", "abéc", {"ab", "é", "c"}},
        {"[\\S\\n]+", "a \nb", {"a", " ", "\nb"}},
        {"[^\\S\\n]+", "a \nb", {"a", " ", "\nb"}},
        // \h is a hexadecimal digit, \v the vertical tab, \w has marks and connectors.
        {"\\h+", "xaf09 g", {"x", "af09", " g"}},
        {"[\\h_]+", "x_f g", {"x", "_f", " g"}},
        {"\\v", "a\nb\vc", {"a\nb", "\v", "c"}},
        {"\\w+", "e\u0301 a\u203fb\u00b2", {"e\u0301", " ", "a\u203fb", "\u00b2"}},
        {"\\bb", "ab b", {"ab ", "b"}},
        {"a\\b", "a\u0301 a", {"a\u0301 ", "a"}},
        // POSIX classes are Unicode's.
        {"[[:alpha:]]+", "a\u2167\u0903\u00b2", {"a\u2167\u0903", "\u00b2"}},
        {"[[:^alpha:]]+", "a1b", {"a", "1", "b"}},
        {"[[:punct:]]+", "a!+b", {"a", "!+", "b"}},
        {"[[:upper:][:digit:]]+", "aB1c", {"a", "B1", "c"}},
        {"\\p{Alpha}+", "ab1", {"ab", "1"}},
        {"\\p{^Alpha}+", "ab1", {"ab", "1"}},
        // Scripts, not their extensions: U+30FC is common to two.
        {"\\p{Katakana}+", "\u30ab\u30fc", {"\u30ab", "\u30fc"}},
        {"\\p{Han}+", "\u4f60a", {"\u4f60", "a"}},
        // ^ and $ are of lines.
        {"^a", "a\na", {"a", "\n", "a"}},
        {"a$", "a\nab", {"a", "\nab"}},
        // {n,m}+ is a repeat of a repeat, {n}? may be none, {,n} begins at none.
        {"\\d{1,2}+", "12345a", {"12345", "a"}},
        {"x\\d{2}?y", "xy x12y", {"xy", " ", "x12y"}},
        {"a{,2}b", "aaab", {"a", "aab"}},
        {"(?:ab){2}+", "ababababab", {"abababab", "ab"}},
        // (?i) on its own is of the alternatives behind it; (?m) lets . match line ends.
        {"a(?i)b|c", "ac aB", {"ac", " ", "aB"}},
        {"(?m:a.b)", "a\nb", {"a\nb"}},
        {"\\u0061+", "aab", {"aa", "b"}},
        // Alike in both.
        {"'(?i:[sdmt]|ll)|\\s+(?!\\S)|\\p{N}{1,3}", "I'LL 1234  x", {"I", "'LL", " ", "123", "4", " ", " x"}},
        {"[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+", " ab,cd", {" ab", ",cd"}},
        {"[]a]+|[\\]\\-^]+", "]a-^", {"]a", "-^"}},
    };
    for (const auto& c : cases)
        EXPECT_EQ(RegexSplitter(c.pattern).split({c.text}), c.pieces) << c.pattern << " on " << c.text;
}

TEST(RegexSplitter, RefusesByNameWhatItCannotTranslate) {
    const struct {
        const char *pattern, *named;
    } cases[] = {{"a\\y", "\\y"},
                 {"(?x)a b", "option x"},
                 {"(?s:a.b)", "option s"},
                 {"[[:foo:]]", "[:foo:]"},
                 {"\\p{InBasic_Latin}", "InBasic_Latin"},
                 {"[[:graph:]]", "graph"},
                 {"(?~ab)", "(?~"},
                 {"(*FAIL)", "(*"},
                 {"\\Qa\\E", "\\Q"},
                 {"(?<a", "missing >"},
                 {"[a", "not closed"}};
    for (const auto& c : cases) {
        try {
            RegexSplitter splitter(c.pattern);
            ADD_FAILURE() << c.pattern;
        } catch (const Error& e) {
            EXPECT_NE(std::string(e.what()).find(c.named), std::string::npos)
                << c.pattern << ": " << e.what();
        }
    }
}

TEST(RegexSplitter, RefusesWhatItCannotRun) {
    EXPECT_THROW(RegexSplitter("(a"), Error);
    EXPECT_THROW(RegexSplitter(R"(\C)"), Error);
    EXPECT_THROW(RegexSplitter(std::string(100'000, 'a')), Error);
    EXPECT_THROW(RegexSplitter("(a+)+$").split({std::string(60, 'a') + "b"}), Error);
    EXPECT_THROW(RegexSplitter(R"((?=ab\K)|b)").split({"xab"}), Error);
}

}  // namespace
}  // namespace smelt
