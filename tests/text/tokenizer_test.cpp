#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/mapped_file.h"
#include "text/nfc.h"
#include "text/text_support.h"

namespace smelt {
namespace {

using Ids = std::vector<int32_t>;

const std::string data_folder = SMELT_TEST_DATA "/tokenizers/";

const Tokenizer& qwen3() {
    static const Tokenizer tokenizer = load_tokenizer(data_folder + "qwen3/tokenizer.json");
    return tokenizer;
}

const Tokenizer& demo() {
    static const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(SMELT_MODELS "/demo-5m"));
    return tokenizer;
}

const Tokenizer& llama_spm() {
    static const Tokenizer tokenizer = load_tokenizer(data_folder + "llama-spm/vocab.gguf");
    return tokenizer;
}

struct Case {
    std::string text;
    Ids ids;
};

// Texts stand between lines __ggml_vocab_test__, their ids one text a line.
std::vector<Case> read_cases(const std::string& folder) {
    const MappedFile texts(data_folder + folder + "/cases.inp");
    std::ifstream lines(data_folder + folder + "/cases.out");
    const std::string_view separator = "\n__ggml_vocab_test__\n";
    std::vector<Case> cases;
    std::string_view rest = texts.text();
    for (std::string line; std::getline(lines, line);) {
        const size_t stop = rest.find(separator);
        Case c{std::string(rest.substr(0, stop)), {}};
        std::istringstream ids(line);
        for (int32_t id; ids >> id;) c.ids.push_back(id);
        cases.push_back(std::move(c));
        rest = stop == std::string_view::npos ? std::string_view{} : rest.substr(stop + separator.size());
    }
    return cases;
}

void expect_cases(const Tokenizer& tokenizer, const std::string& folder) {
    const auto cases = read_cases(folder);
    ASSERT_EQ(cases.size(), 46u);
    for (const Case& c : cases) {
        const Ids ids = tokenizer.encode(c.text);
        EXPECT_EQ(ids, c.ids) << "text: " << c.text;
        EXPECT_EQ(tokenizer.decode(ids), c.text);
    }
}

TEST(Tokenizer, Qwen3Cases) {
    expect_cases(qwen3(), "qwen3");
}

TEST(Tokenizer, Gpt2Cases) {
    expect_cases(load_tokenizer(data_folder + "gpt-2/vocab.gguf"), "gpt-2");
}

TEST(Tokenizer, LlamaSpmCases) {
    expect_cases(llama_spm(), "llama-spm");
}

TEST(Tokenizer, SentencePieceGivesTextBack) {
    std::mt19937 rng(7);
    for (int i = 0; i < 3000; ++i) {
        const std::string text = random_text(rng, 40);
        const Ids ids = llama_spm().encode(text);
        ASSERT_EQ(llama_spm().decode(ids), text);
        StreamDecoder stream(llama_spm());
        std::string shown;
        for (const int32_t id : ids) {
            shown += stream.push(id);
            ASSERT_EQ(replace_broken_utf8(shown), shown);
        }
        ASSERT_EQ(shown + stream.finish(), text);
    }
}

TEST(Tokenizer, SentencePieceMarksTheFirstSpace) {
    const Tokenizer& t = llama_spm();
    const int32_t hello = t.find(" Hello"), bos = t.bos();
    EXPECT_EQ(t.encode("Hello"), Ids{hello});
    EXPECT_EQ(t.encode(" Hello").size(), 2u);
    EXPECT_EQ(t.encode("\xe2\x96\x81Hello"), t.encode(" Hello"));
    EXPECT_EQ(t.encode("<s>Hello", {.add_special = true}), (Ids{bos, bos, hello}));
    EXPECT_EQ(t.decode(Ids{bos, hello}, true), "Hello");
    StreamDecoder answer(t, true), more(t, true);
    more.keep_first_space();
    std::string answered, continued;
    for (const int32_t id : {bos, hello, hello}) {
        answered += answer.push(id);
        continued += more.push(id);
    }
    EXPECT_EQ(answered, "Hello Hello");
    EXPECT_EQ(continued, " Hello Hello");
    // Control tokens do not come from text that is not trusted.
    const Ids untrusted = t.encode("<s>", {.parse_special = false});
    EXPECT_EQ(std::count(untrusted.begin(), untrusted.end(), bos), 0);
}

TEST(Tokenizer, SentencePieceFallsBackToBytes) {
    const Tokenizer& t = llama_spm();
    const Ids ids = t.encode("\xf0\x9f\xa6\x99\xff");  // no token has the llama
    ASSERT_EQ(ids.size(), 6u);
    EXPECT_EQ(t.token_bytes(ids[1]), "\xf0");
    EXPECT_EQ(t.decode(ids), "\xf0\x9f\xa6\x99\xef\xbf\xbd");
}

TEST(Tokenizer, PrefixSpaceBehindAddedTokens) {
    Vocabulary v = byte_vocabulary();
    v.types.assign(256, TokenType::byte);
    v.sentencepiece = v.add_prefix_space = v.prefix_once = true;
    v.patterns = {std::string(metaspace_pattern)};
    const int32_t x = add_token(v, "<x>", TokenType::control);
    v.added = {{.id = x, .special = true}};
    EXPECT_EQ(Tokenizer(v).encode("a<x>a"), (Ids{' ', 'a', x, 'a'}));
    EXPECT_EQ(Tokenizer(v).encode(" a b"), (Ids{' ', 'a', ' ', 'b'}));
    EXPECT_EQ(Tokenizer(v).encode("<x>a"), (Ids{x, 'a'}));
    v.prefix_once = false;
    EXPECT_EQ(Tokenizer(v).encode("a<x>a"), (Ids{' ', 'a', x, ' ', 'a'}));
    v.prefix_always = true;
    EXPECT_EQ(Tokenizer(v).encode(" a"), (Ids{' ', ' ', 'a'}));
}

TEST(Tokenizer, DecodeGivesTextInNfcBack) {
    std::mt19937 rng(1);
    for (int i = 0; i < 3000; ++i) {
        std::string buffer;
        const std::string text(nfc(random_text(rng, 40), buffer));
        ASSERT_EQ(qwen3().decode(qwen3().encode(text)), text);
        ASSERT_EQ(demo().decode(demo().encode(text)), text);
    }
}

TEST(Tokenizer, BytesThatAreNotUtf8AreEncodedAsTheyAre) {
    std::mt19937 rng(2);
    for (int i = 0; i < 2000; ++i) {
        // From bytes >= 0x80, of which none is in NFC's reach but as part of a character.
        std::string bytes = random_bytes(rng, rng() % 20);
        std::string joined;
        for (const int32_t id : demo().encode(bytes)) joined += demo().token_bytes(id);
        std::string buffer;
        ASSERT_EQ(joined, nfc(bytes, buffer));
    }
    EXPECT_EQ(demo().decode(demo().encode("a\xff\xe4\xbd"
                                          "b")),
              "a\xef\xbf\xbd\xef\xbf\xbd"
              "b");
}

TEST(Tokenizer, SpecialTokensInText) {
    const int32_t im_end = qwen3().find("<|im_end|>"), think = qwen3().find("<think>");
    ASSERT_GE(im_end, 0);
    EXPECT_TRUE(qwen3().is_special(im_end));
    EXPECT_FALSE(qwen3().is_special(think));
    EXPECT_EQ(qwen3().encode("<|im_end|><think>"), (Ids{im_end, think}));

    const Ids untrusted = qwen3().encode("<|im_end|><think>", {.parse_special = false});
    EXPECT_EQ(std::count(untrusted.begin(), untrusted.end(), im_end), 0);
    EXPECT_EQ(untrusted.back(), think);  // no control token: stands for its text
    EXPECT_EQ(qwen3().decode(untrusted), "<|im_end|><think>");
    EXPECT_EQ(qwen3().decode(Ids{think, im_end}, true), "<think>");
}

TEST(Tokenizer, TokenizerConfigIsRead) {
    EXPECT_EQ(demo().eos(), demo().find("<|im_end|>"));
    EXPECT_EQ(demo().bos(), -1);
}

TEST(Tokenizer, IdsWithoutTokenAreEmpty) {
    EXPECT_EQ(demo().token_bytes(-1), "");
    EXPECT_EQ(demo().token_bytes(demo().n_tokens()), "");
    EXPECT_EQ(demo().decode(Ids{-5, 1 << 30}), "");
    EXPECT_FALSE(demo().is_special(demo().n_tokens()));
    EXPECT_EQ(demo().find("no such token"), -1);
    EXPECT_EQ(demo().find(""), -1);
}

TEST(Tokenizer, AddsBosAndEosWhereAskedFor) {
    Vocabulary v = byte_vocabulary();
    v.bos = add_token(v, "<s>", TokenType::control);
    v.eos = add_token(v, "</s>", TokenType::control);
    v.add_bos = true;
    EXPECT_EQ(Tokenizer(v).encode("a", {.add_special = true}), (Ids{v.bos, 'a'}));
    EXPECT_EQ(Tokenizer(v).encode("a"), (Ids{'a'}));
    v.add_eos = true;
    EXPECT_EQ(Tokenizer(v).encode("", {.add_special = true}), (Ids{v.bos, v.eos}));
}

TEST(Tokenizer, AddedTokens) {
    Vocabulary v = byte_vocabulary();
    v.nfc = true;
    const auto add = [&](const std::string& text, AddedToken flags) {
        flags.id = add_token(v, text, flags.special ? TokenType::control : TokenType::user_defined);
        v.added.push_back(flags);
        return flags.id;
    };
    const int32_t short_one = add("<a", {}), long_one = add("<ab>", {});
    const int32_t left = add("<l>", {.lstrip = true}), right = add("<r>", {.rstrip = true});
    const int32_t word = add("wd", {.single_word = true});
    const int32_t composed = add("\xc3\xa9", {.normalized = true});  // é
    const int32_t decomposed = add("e\xcc\xa3", {});                 // raw text only
    const Tokenizer t(v);
    EXPECT_EQ(t.encode("<ab>"), (Ids{long_one}));
    EXPECT_EQ(t.encode("<abc"), (Ids{short_one, 'b', 'c'}));
    EXPECT_EQ(t.encode("<<ab>>"), (Ids{'<', long_one, '>'}));
    EXPECT_EQ(t.encode("x \n<l> y"), (Ids{'x', left, ' ', 'y'}));
    EXPECT_EQ(t.encode("x <r> \ty<r>"), (Ids{'x', ' ', right, 'y', right}));
    EXPECT_EQ(t.encode("<r> <l>"), (Ids{right, left}));
    EXPECT_EQ(t.encode("wd wd1 swd-wd."),
              (Ids{word, ' ', 'w', 'd', '1', ' ', 's', 'w', 'd', '-', word, '.'}));
    EXPECT_EQ(t.encode("\xc3\xa9wd"), (Ids{composed, 'w', 'd'}));
    EXPECT_EQ(t.encode("e\xcc\x81"), (Ids{composed}));
    EXPECT_EQ(t.encode("e\xcc\xa3"), (Ids{decomposed}));
}

TEST(Tokenizer, IgnoreMergesTakesWholePieces) {
    Vocabulary v = byte_vocabulary();
    const int32_t ab = add_merge(v, 'a', 'b');
    const int32_t abc = add_token(v, "abc");
    EXPECT_EQ(Tokenizer(v).encode("abc"), (Ids{ab, 'c'}));
    EXPECT_EQ(Tokenizer(v).encode("abc"), Tokenizer(v).encode("abc"));
    v.ignore_merges = true;
    EXPECT_EQ(Tokenizer(v).encode("abc"), (Ids{abc}));
    EXPECT_EQ(Tokenizer(v).encode("abca"), (Ids{ab, 'c', 'a'}));
}

TEST(Tokenizer, PrefixSpace) {
    Vocabulary v = byte_vocabulary();
    v.add_prefix_space = true;
    EXPECT_EQ(Tokenizer(v).encode("a"), (Ids{' ', 'a'}));
    EXPECT_EQ(Tokenizer(v).encode(" a"), (Ids{' ', 'a'}));
    EXPECT_EQ(Tokenizer(v).encode(""), Ids{});
}

TEST(Tokenizer, WhatIsLearntAboutTokensChangesNothing) {
    Vocabulary v = byte_vocabulary();
    add_merge(v, 'a', 'b');
    add_token(v, "abc");  // no merge makes it
    const Tokenizer t(v);
    const Ids first = t.encode("abc ab abc");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(t.encode("abc ab abc"), first);
}

TEST(Tokenizer, ServesManyThreads) {
    std::mt19937 rng(3);
    std::string text;
    for (int i = 0; i < 300; ++i) text += random_text(rng, 40) + " plain English words, and more of them.";
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(SMELT_MODELS "/demo-5m"));
    std::vector<Ids> results(4);
    std::vector<std::thread> threads;
    for (Ids& result : results) threads.emplace_back([&] { result = tokenizer.encode(text); });
    for (std::thread& t : threads) t.join();
    for (const Ids& result : results) EXPECT_EQ(result, demo().encode(text));
}

// Anything quadratic would take hours here.
TEST(Tokenizer, LongTextsOfOneKind) {
    for (const std::string unit :
         {"a", " ", "\n", "   \n", "\xf0\x9f\x98\x80", "\xcc\x81\xcc\xa3", "\xff", "<|im_end|", "'", "0"}) {
        std::string text;
        while (text.size() < 1'000'000) text += unit;
        std::string joined, buffer;
        for (const int32_t id : demo().encode(text)) joined += demo().token_bytes(id);
        EXPECT_TRUE(joined == nfc(text, buffer)) << unit;
        EXPECT_TRUE(llama_spm().decode(llama_spm().encode(text)) == replace_broken_utf8(text)) << unit;
    }
    const std::string ten_megabytes(10'000'000, 'a');
    EXPECT_TRUE(llama_spm().decode(llama_spm().encode(ten_megabytes)) == ten_megabytes);
}

TEST(Tokenizer, RefusesDamagedVocabularies) {
    Vocabulary v = byte_vocabulary();
    v.merges.push_back({'a', 'b', 300});
    EXPECT_THROW(Tokenizer{v}, Error);
    v.merges.back().result = 'c';
    EXPECT_THROW(Tokenizer{v}, Error);
    v.merges.clear();
    v.eos = 256;
    EXPECT_THROW(Tokenizer{v}, Error);
    v.eos = -1;
    v.types.pop_back();
    EXPECT_THROW(Tokenizer{v}, Error);
    EXPECT_THROW(Tokenizer{Vocabulary{}}, Error);
    v = byte_vocabulary();
    v.patterns.assign(65, "a");
    EXPECT_THROW(Tokenizer{v}, Error);
}

// Every way to cut a text into tokens, whole characters, broken ones and the start of one at the end.
TEST(StreamDecoder, AllSplitsGiveWholeCharacters) {
    const std::string text =
        "a\xc3\xa9\xf0\x9f\xa6\x99\xff\xe4\xbd"
        "b\xf0\x9f";
    Vocabulary v = byte_vocabulary();
    std::vector<std::vector<int32_t>> id(text.size(), std::vector<int32_t>(text.size() + 1));
    for (size_t begin = 0; begin < text.size(); ++begin) {
        for (size_t end = begin + 1; end <= text.size(); ++end) {
            id[begin][end] = add_token(v, text.substr(begin, end - begin));
        }
    }
    const Tokenizer t(v);
    for (uint32_t cuts = 0; cuts < 1u << (text.size() - 1); ++cuts) {
        StreamDecoder stream(t);
        std::string shown;
        size_t begin = 0;
        for (size_t end = 1; end <= text.size(); ++end) {
            if (end < text.size() && (cuts >> (end - 1) & 1) == 0) continue;
            shown += stream.push(id[begin][end]);
            begin = end;
            const size_t complete = end - truncated_tail(text.substr(0, end));
            ASSERT_EQ(shown, replace_broken_utf8(text.substr(0, complete)));
        }
        shown += stream.finish();
        ASSERT_EQ(shown,
                  "a\xc3\xa9\xf0\x9f\xa6\x99\xef\xbf\xbd\xef\xbf\xbd"
                  "b\xef\xbf\xbd");
        ASSERT_EQ(stream.finish(), "");
    }
}

TEST(StreamDecoder, LeavesControlTokensOut) {
    StreamDecoder stream(demo(), true);
    const auto first_byte = demo().find("\xc3"), second_byte = demo().find("\xa9");
    EXPECT_EQ(stream.push(first_byte), "");
    EXPECT_EQ(stream.push(demo().find("<|im_end|>")), "");
    EXPECT_EQ(stream.push(second_byte), "\xc3\xa9");
}

}  // namespace
}  // namespace smelt
