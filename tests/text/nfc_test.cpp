#include "text/nfc.h"

#include <gtest/gtest.h>
#include <utf8proc.h>

#include <cstdlib>

#include "text/text_support.h"

namespace smelt {
namespace {

std::string oracle(const std::string& text) {
    utf8proc_uint8_t* result = nullptr;
    const auto options = static_cast<utf8proc_option_t>(UTF8PROC_STABLE |
                                                        UTF8PROC_COMPOSE);  // as utf8proc_NFC, but with zeros
    const auto n = utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                static_cast<utf8proc_ssize_t>(text.size()), &result, options);
    EXPECT_GE(n, 0);
    std::string out(reinterpret_cast<char*>(result), static_cast<size_t>(n));
    std::free(result);
    return out;
}

std::string normal(const std::string& text) {
    std::string buffer;
    return std::string(nfc(text, buffer));
}

// Every code point alone, and behind each of some that compose with much.
TEST(Nfc, AgreesWithUtf8procOnAllCodePoints) {
    const char32_t before[] = {U'A', U'\u00ea', U'\u0928', U'\u1100', U'\uac00', U'\u3046', U'\u0627'};
    for (char32_t c = 1; c < 0x110000; ++c) {
        if (c >= 0xd800 && c < 0xe000) continue;
        std::string alone;
        append_utf8(alone, c);
        ASSERT_EQ(normal(alone), oracle(alone)) << std::hex << static_cast<uint32_t>(c);
        const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
        const bool wide =
            c > 0x3200 && c < 0xfb00;  // CJK, Hangul syllables: compose with nothing before them
        if (wide || c >= 0x20000 || category == UTF8PROC_CATEGORY_CN) continue;
        for (const char32_t b : before) {
            std::string pair;
            append_utf8(pair, b);
            ASSERT_EQ(normal(pair + alone), oracle(pair + alone)) << std::hex << static_cast<uint32_t>(c);
        }
    }
}

TEST(Nfc, AgreesWithUtf8procOnRandomText) {
    std::mt19937 rng(1);
    for (int i = 0; i < 20000; ++i) {
        const std::string text = random_text(rng, 12);
        ASSERT_EQ(normal(text), oracle(text));
        ASSERT_EQ(normal(normal(text)), normal(text));
    }
}

TEST(Nfc, BrokenBytesStayAndSeparate) {
    EXPECT_EQ(normal("e\xcc\x81\xff"
                     "e\xff\xcc\x81"),
              "\xc3\xa9\xff"
              "e\xff\xcc\x81");
    EXPECT_EQ(normal("\xe2\x82"), "\xe2\x82");
}

TEST(Nfc, TextInNfcIsNotCopied) {
    const std::string text = "na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd";
    std::string buffer;
    EXPECT_EQ(nfc(text, buffer).data(), text.data());
}

TEST(Nfc, LongRunsOfMarksAreOrdered) {
    std::string text = "a", expected = "a";
    for (int i = 0; i < 200'000; ++i) text += "\xcc\x95\xcc\xa7";  // classes 232 and 202
    for (int i = 0; i < 200'000; ++i) expected += "\xcc\xa7";
    for (int i = 0; i < 200'000; ++i) expected += "\xcc\x95";
    EXPECT_TRUE(normal(text) == expected);
}

}  // namespace
}  // namespace smelt
