// Any bytes as text, through a small vocabulary with added tokens of every kind. The first byte picks the
// options. Without added tokens in the text its bytes come back, and a stream gives the same as decoding at
// once.
#include <algorithm>
#include <cstdint>

#include "base/error.h"
#include "text/nfc.h"
#include "text/sentencepiece.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

Tokenizer make_tokenizer(std::string_view pattern, bool with_added) {
    Vocabulary v;
    const auto add = [&](std::string text, TokenType type = TokenType::normal) {
        v.tokens.push_back(std::move(text));
        v.types.push_back(type);
        return v.n_tokens() - 1;
    };
    for (int b = 0; b < 256; ++b) add(std::string(1, static_cast<char>(b)));
    const auto merge = [&](int32_t left, int32_t right) {
        const int32_t id = add(v.tokens[static_cast<size_t>(left)] + v.tokens[static_cast<size_t>(right)]);
        v.merges.push_back({left, right, id});
        return id;
    };
    const int32_t aa = merge('a', 'a'), spaces = merge(' ', ' '), ab = merge('a', 'b');
    merge(merge(aa, aa), aa);
    merge(spaces, spaces);
    merge(' ', merge(ab, 'c'));
    merge(0xf0, 0x9f);
    const AddedToken flags[] = {
        {.special = true}, {.lstrip = true, .rstrip = true}, {.single_word = true}, {.normalized = true}};
    const char* texts[] = {"<|end|>", "<s>", "word", "\xc3\xa9"};
    for (size_t i = 0; with_added && i < std::size(flags); ++i) {
        AddedToken token = flags[i];
        token.id = add(texts[i], TokenType::user_defined);
        v.added.push_back(token);
    }
    v.patterns = {std::string(pattern)};
    v.nfc = true;
    return Tokenizer(std::move(v));
}

Tokenizer make_sentencepiece() {
    Vocabulary v;
    for (int b = 0; b < 256; ++b) v.tokens.emplace_back(1, static_cast<char>(b));
    v.types.assign(256, TokenType::byte);
    for (const char* token :
         {"a", "b", " ", "\xc3\xa9", "aa", "aaaa", " a", "  ", "ab", "b ", "\xc3\xa9\xc3\xa9"}) {
        v.tokens.emplace_back(token);
        v.types.push_back(TokenType::normal);
    }
    v.sentencepiece = true;
    for (size_t id = 0; id < v.tokens.size(); ++id) v.scores.push_back(static_cast<float>(id % 3));
    v.merges = merges_by_score(v);
    return Tokenizer(std::move(v));
}

void run(std::string_view text, uint8_t options) {
    static const Tokenizer tokenizers[] = {make_tokenizer(gpt2_pattern, true),
                                           make_tokenizer(qwen2_pattern, false),
                                           make_tokenizer(qwen2_pattern, true),
                                           make_tokenizer(llama3_pattern, false),
                                           make_tokenizer(R"(\p{Lu}\p{Ll}*|\d{1,3})", false),
                                           make_sentencepiece(),
                                           make_tokenizer(o200k_pattern, false)};
    const Tokenizer& tokenizer = tokenizers[options % std::size(tokenizers)];
    const auto ids = tokenizer.encode(text, {.parse_special = (options & 0x80) == 0});

    std::string streamed, joined, buffer;
    StreamDecoder stream(tokenizer);
    for (const int32_t id : ids) {
        streamed += stream.push(id);
        joined += tokenizer.token_bytes(id);
    }
    streamed += stream.finish();
    CHECK(streamed == tokenizer.decode(ids), "stream and decode differ");
    const bool strips = !tokenizer.vocabulary().added.empty();
    const bool sentencepiece = tokenizer.vocabulary().sentencepiece;
    CHECK(strips || joined == (sentencepiece ? unspell_spaces(text) : nfc(text, buffer)), "bytes got lost");
}

}  // namespace

}  // namespace smelt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size > 0) smelt::run({reinterpret_cast<const char*>(data + 1), size - 1}, data[0]);
    return 0;
}
