#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/mapped_file.h"
#include "text/nfc.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace smelt {
namespace {

const std::string data_folder = SMELT_TEST_DATA "/tokenizers/";

Vocabulary read_json_file(const std::string& path) {
    return read_vocabulary_json(MappedFile(path).text(), path);
}

const Tokenizer& qwen3() {
    static const Tokenizer tokenizer(read_json_file(data_folder + "qwen3/tokenizer.json"));
    return tokenizer;
}

const Tokenizer& demo() {
    static const Tokenizer tokenizer(read_json_file(SMELT_MODELS "/demo-5m/tokenizer.json"));
    return tokenizer;
}

struct Case {
    std::string text;
    std::vector<int32_t> ids;
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
    ASSERT_GT(cases.size(), 40u);
    for (const Case& c : cases) {
        const auto ids = tokenizer.encode(c.text);
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

// Code points of all planes, weighted to those where tokenizers differ; no surrogates.
char32_t random_char(std::mt19937& rng) {
    const auto between = [&](uint32_t low, uint32_t high) {
        return static_cast<char32_t>(std::uniform_int_distribution<uint32_t>(low, high)(rng));
    };
    switch (between(0, 9)) {
        case 0:
        case 1:
        case 2:
            return between(' ', '~');
        case 3:
            return U" \n\r\t'\u00a0\u3000\u2028"[between(0, 7)];
        case 4:
            return between(0x80, 0x52f);
        case 5:
            return between(0x300, 0x36f);  // combining marks
        case 6:
            return between(0x4e00, 0x9fff);
        case 7:
            return between(0x1f300, 0x1faff);
        case 8:
            return between(0, 0xd7ff);
        default:
            return between(0xe000, 0x10ffff);
    }
}

std::string random_text(std::mt19937& rng, int max_chars) {
    std::string text;
    for (int n = std::uniform_int_distribution<int>(0, max_chars)(rng); n > 0; --n) {
        append_utf8(text, random_char(rng));
    }
    return text;
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

}  // namespace
}  // namespace smelt
