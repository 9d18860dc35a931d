#include "text/vocabulary.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "base/error.h"
#include "base/mapped_file.h"
#include "files/metadata.h"
#include "files/model_file.h"
#include "text/byte_map.h"
#include "text/pre_tokenizer_names.h"
#include "text/text_support.h"
#include "text/tokenizer.h"

namespace smelt {
namespace {

const std::string data_folder = SMELT_TEST_DATA "/tokenizers/";
const std::string demo_path = SMELT_MODELS "/demo-5m/tokenizer.json";

Vocabulary read_json_file(const std::string& path) {
    return read_vocabulary_json(MappedFile(path).text(), path);
}

Vocabulary demo() {
    Vocabulary v = read_json_file(demo_path);
    const std::string config = SMELT_MODELS "/demo-5m/tokenizer_config.json";
    read_tokenizer_config(v, MappedFile(config).text(), config);
    return v;
}

void expect_same(const Vocabulary& a, const Vocabulary& b) {
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_EQ(a.types, b.types);
    EXPECT_EQ(a.merges, b.merges);
    EXPECT_EQ(a.added, b.added);
    EXPECT_EQ(a.patterns, b.patterns);
    EXPECT_EQ(a.nfc, b.nfc);
    EXPECT_EQ(a.add_prefix_space, b.add_prefix_space);
    EXPECT_EQ(a.ignore_merges, b.ignore_merges);
    EXPECT_EQ(a.sentencepiece, b.sentencepiece);
    EXPECT_EQ(a.prefix_always, b.prefix_always);
    EXPECT_EQ(a.prefix_once, b.prefix_once);
    EXPECT_EQ(a.bos, b.bos);
    EXPECT_EQ(a.eos, b.eos);
    EXPECT_EQ(a.pad, b.pad);
    EXPECT_EQ(a.unk, b.unk);
    EXPECT_EQ(a.add_bos, b.add_bos);
    EXPECT_EQ(a.add_eos, b.add_eos);
}

// The text of the Error that `f` must throw.
std::string error_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

void expect_error(const std::string& expected, const std::function<void()>& f) {
    const std::string found = error_of(f);
    EXPECT_NE(found.find(expected), std::string::npos) << found;
    EXPECT_EQ(found.find('\n'), std::string::npos) << found;
}

TEST(ByteMap, CoversAllBytes) {
    std::string all;
    for (int b = 0; b < 256; ++b) all += static_cast<char>(b);
    EXPECT_EQ(spell_bytes(" the\n"), "\xc4\xa0the\xc4\x8a");
    EXPECT_EQ(unspell_bytes(spell_bytes(all)), all);
    EXPECT_EQ(unspell_bytes("a b"), std::nullopt);
    EXPECT_EQ(unspell_bytes_or_keep("\xc4\xa0 \xe4\xbd\xa0"), "  \xe4\xbd\xa0");
}

TEST(VocabularyJson, Qwen3) {
    const Vocabulary v = read_json_file(data_folder + "qwen3/tokenizer.json");
    EXPECT_EQ(v.n_tokens(), 151669);
    EXPECT_EQ(v.merges.size(), 151387u);
    EXPECT_EQ(v.added.size(), 26u);
    EXPECT_EQ(v.patterns, std::vector<std::string>{std::string(qwen2_pattern)});
    EXPECT_TRUE(v.nfc);
    EXPECT_FALSE(v.ignore_merges);
    EXPECT_EQ(v.tokens[220], " ");
    EXPECT_EQ(v.types[151643], TokenType::control);
    EXPECT_EQ(v.tokens[151643], "<|endoftext|>");
}

TEST(VocabularyJson, ConfigSaysWhichTokensAreSpecial) {
    const Vocabulary v = demo();
    EXPECT_EQ(v.bos, -1);
    EXPECT_EQ(v.tokens[static_cast<size_t>(v.eos)], "<|im_end|>");
    EXPECT_EQ(v.tokens[static_cast<size_t>(v.pad)], "<|endoftext|>");
    EXPECT_FALSE(v.add_bos);
}

TEST(VocabularyJson, WrittenAndReadAgain) {
    for (const bool qwen : {false, true}) {
        Vocabulary v = qwen ? read_json_file(data_folder + "qwen3/tokenizer.json") : demo();
        Vocabulary again = read_vocabulary_json(write_vocabulary_json(v), "written");
        read_tokenizer_config(again, to_string(write_tokenizer_config(v)), "written config");
        expect_same(v, again);
    }
}

TEST(VocabularyJson, FlagsAndTemplatesAreWrittenAndReadAgain) {
    Vocabulary v = byte_vocabulary();
    add_merge(v, 'a', add_merge(v, 'b', '\n'));
    v.bos = add_token(v, "<s>", TokenType::control);
    v.eos = add_token(v, "\xc3\xa9 end", TokenType::control);
    const int32_t user = add_token(v, " \"x\" ", TokenType::user_defined);
    v.added = {{.id = v.bos, .special = true, .lstrip = true},
               {.id = v.eos, .special = true, .rstrip = true},
               {.id = user, .single_word = true, .normalized = true}};
    v.add_bos = v.add_eos = true;
    v.ignore_merges = true;
    for (const std::vector<std::string>& patterns : {std::vector<std::string>{std::string(gpt2_pattern)},
                                                     {std::string(llama3_pattern)},
                                                     {"[0-9]", "a+"}}) {
        v.patterns = patterns;
        const std::string text = write_vocabulary_json(v);
        expect_same(v, read_vocabulary_json(text, "written"));
    }
    v.patterns = {std::string(gpt2_pattern)};
    v.add_prefix_space = true;
    expect_same(v, read_vocabulary_json(write_vocabulary_json(v), "written"));
    v.patterns = {"a"};
    EXPECT_THROW(write_vocabulary_json(v), Error);
}

// A small tokenizer.json with parts replaced.
std::string small_json(const std::string& part = "", const std::string& by = "") {
    std::string text =
        R"({"added_tokens":[{"id":4,"content":"<x>","special":true}],"normalizer":null,)"
        R"("pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"post_processor":null,)"
        R"("model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2,"abb":3},"merges":["a b",["ab","b"]]}})";
    const size_t at = text.find(part);
    if (!part.empty()) text.replace(at, part.size(), by);
    return text;
}

TEST(VocabularyJson, SmallOne) {
    const Vocabulary v = read_vocabulary_json(small_json(), "small");
    EXPECT_EQ(v.merges, (std::vector<Merge>{{0, 1, 2}, {2, 1, 3}}));
    EXPECT_EQ(v.patterns, std::vector<std::string>{std::string(gpt2_pattern)});
    EXPECT_EQ(v.added, std::vector<AddedToken>{(AddedToken{.id = 4, .special = true})});
}

TEST(VocabularyJson, ErrorsNameWhatIsWrong) {
    const auto expect = [](const std::string& expected, const std::string& part, const std::string& by) {
        expect_error(expected, [&] { read_vocabulary_json(small_json(part, by), "file"); });
    };
    expect("file: not valid JSON", "}}", "}");
    expect("file: model.type \"Unigram\" is not supported", "BPE", "Unigram");
    expect("file: model.merges: entry 0: expected two tokens, found \"ab\"", "a b", "ab");
    expect("file: model.merges: entry 0: token \"x\" is not in model.vocab", "a b", "x b");
    expect("file: model.merges: entry 1: expected two tokens, found a list of 1", R"(["ab","b"])",
           R"(["ab"])");
    expect("file: model.vocab: \"b\": expected a token id, found -1", "\"b\":1", "\"b\":-1");
    expect("file: model.vocab: \"b\": expected a token id, found string", "\"b\":1", "\"b\":\"1\"");
    expect("file: model.vocab: id 0 for \"a\" and for \"b\"", "\"b\":1", "\"b\":0");
    expect("file: token \"b\": id 2000000000 is too far from the 4 tokens of the file", "\"b\":1",
           "\"b\":2000000000");
    expect("file: added_tokens: expected id and content", "\"id\":4", "\"id\":\"4\"");
    expect("normalizer {\"type\":\"NFKC\"} is not supported", "null,\"pre", "{\"type\":\"NFKC\"},\"pre");
    expect("pre_tokenizer {\"type\":\"Bert\"", "ByteLevel", "Bert");
    expect("pre_tokenizer {\"type\":\"Metaspace\",\"replacement\":\"_\"", "ByteLevel\"",
           "Metaspace\",\"replacement\":\"_\"");
    expect("pre_tokenizer: expected a ByteLevel or Metaspace one",
           R"({"type":"ByteLevel","add_prefix_space":false})", "null");
    expect("post_processor {\"type\":\"Bert\"} is not supported", "null,\"model",
           "{\"type\":\"Bert\"},\"model");
    expect("nested deeper than 64", "null,\"pre", std::string(70, '[') + std::string(70, ']') + ",\"pre");
}

Vocabulary llama_spm() {
    return read_vocabulary_gguf(open_model(data_folder + "llama-spm/vocab.gguf")->metadata, "llama-spm");
}

TEST(VocabularyJson, SentencePieceIsWrittenAndReadAgain) {
    Vocabulary v = llama_spm();
    for (const bool add_bos : {true, false}) {
        v.add_bos = add_bos;
        Vocabulary again = read_vocabulary_json(write_vocabulary_json(v), "written");
        read_tokenizer_config(again, to_string(write_tokenizer_config(v)), "written config");
        expect_same(v, again);
        const std::string text = "Hello  world, \xc3\xa4\xf0\x9f\xa6\x99\n";
        EXPECT_EQ(Tokenizer(again).encode(text), Tokenizer(v).encode(text));
    }
    v.bos = v.eos = -1;  // which without config only a template names
    v.prefix_always = false;
    for (const bool once : {true, false}) {
        v.prefix_once = once;
        expect_same(v, read_vocabulary_json(write_vocabulary_json(v), "written"));
    }
    v.patterns = {std::string(metaspace_pattern)};
    expect_same(v, read_vocabulary_json(write_vocabulary_json(v), "written"));
    v.patterns = {"a"};
    EXPECT_THROW(write_vocabulary_json(v), Error);
    v.patterns.clear();
    v.add_prefix_space = false;  // as Gemma
    expect_same(v, read_vocabulary_json(write_vocabulary_json(v), "written"));
}

// As Llama 2's and Gemma's files have it.
TEST(VocabularyJson, SentencePiece) {
    const auto read = [](const std::string& normalizer, const std::string& pre_tokenizer) {
        return read_vocabulary_json(
            R"({"added_tokens":[{"id":0,"content":"<s>","special":true,"normalized":true}],"normalizer":)" +
                normalizer + R"(,"pre_tokenizer":)" + pre_tokenizer +
                R"(,"model":{"type":"BPE","byte_fallback":true,"vocab":{"<s>":0,"<0x0A>":1,"\u2581":2,"a":3,)"
                R"("\u2581a":4},"merges":["\u2581 a"]}})",
            "file");
    };
    const std::string mark = R"({"type":"Replace","pattern":{"String":" "},"content":"\u2581"})";
    const Vocabulary llama = read(
        R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":"\u2581"},)" + mark + "]}", "null");
    EXPECT_TRUE(llama.sentencepiece && llama.add_prefix_space && llama.prefix_always);
    EXPECT_EQ(llama.tokens, (std::vector<std::string>{"<s>", "\n", " ", "a", " a"}));
    EXPECT_EQ(llama.types[1], TokenType::byte);
    EXPECT_EQ(Tokenizer(llama).encode("a\n<s>a"), (std::vector<int32_t>{4, 1, 0, 4}));
    const Vocabulary gemma =
        read(mark, R"({"type":"Split","pattern":{"String":" "},"behavior":"MergedWithPrevious"})");
    EXPECT_EQ(Tokenizer(gemma).encode("a a"), (std::vector<int32_t>{3, 4}));
    EXPECT_EQ(Tokenizer(gemma).decode(std::vector<int32_t>{4}), " a");
    const Vocabulary first =
        read("null", R"({"type":"Metaspace","replacement":"\u2581","prepend_scheme":"first","split":false})");
    EXPECT_EQ(Tokenizer(first).encode("a<s>a"), (std::vector<int32_t>{4, 0, 3}));
    EXPECT_TRUE(first.patterns.empty());
    expect_error("normalizer {\"type\":\"NFKC\"}", [&] { read(R"({"type":"NFKC"})", "null"); });
}

TEST(VocabularyGguf, SentencePiece) {
    const auto model = open_model(data_folder + "llama-spm/vocab.gguf");
    const Vocabulary v = llama_spm();
    EXPECT_EQ(v.n_tokens(), 32000);
    EXPECT_EQ(v.merges.size(), 61249u);  // as in the model's tokenizer.json
    EXPECT_EQ(v.bos, 1);
    EXPECT_EQ(v.eos, 2);
    EXPECT_EQ(v.unk, 0);
    EXPECT_TRUE(v.add_bos);
    EXPECT_EQ(v.tokens[259], "  ");
    EXPECT_EQ(v.tokens[13], "\n");

    Metadata written;
    write_vocabulary_gguf(v, written);
    for (const char* key : {"tokens", "scores", "token_type", "pre", "model"}) {
        const std::string name = std::string("tokenizer.ggml.") + key;
        ASSERT_NE(written.find(name), nullptr) << name;
        EXPECT_TRUE(*written.find(name) == *model->metadata.find(name)) << name;
    }
    expect_same(v, read_vocabulary_gguf(written, "written"));

    // From a tokenizer.json: its merges travel along, and the scores order them the same way.
    Vocabulary merges_only = v;
    merges_only.scores.clear();
    write_vocabulary_gguf(merges_only, written);
    expect_same(merges_only, read_vocabulary_gguf(written, "written"));
    Metadata scores_only;
    for (const auto& [key, value] : written.values()) {
        if (key != "tokenizer.ggml.merges") scores_only.set(key, value);
    }
    const std::string text = "Hello  world, it's \xc3\xa4 llama \xf0\x9f\xa6\x99\n\nTokenizers' tests";
    EXPECT_EQ(Tokenizer(read_vocabulary_gguf(scores_only, "written")).encode(text),
              Tokenizer(v).encode(text));

    Metadata bad = written;
    bad.set("tokenizer.ggml.model", std::string("t5"));
    expect_error("expected gpt2 (byte-level BPE) or llama (SentencePiece's BPE), found \"t5\"",
                 [&] { read_vocabulary_gguf(bad, "file"); });
    bad = scores_only;
    bad.set("tokenizer.ggml.scores", std::string("none"));
    expect_error("scores", [&] { read_vocabulary_gguf(bad, "file"); });
    bad.set("tokenizer.ggml.scores", std::vector<double>{1});
    expect_error("scores: expected 32000 entries", [&] { read_vocabulary_gguf(bad, "file"); });
    merges_only.prefix_once = true;
    EXPECT_THROW(write_vocabulary_gguf(merges_only, written), Error);
    EXPECT_THROW(write_vocabulary_qwen3c(v, 1, 2), Error);
}

// Every name that is known has patterns that compile, and what is written is read as the same.
TEST(VocabularyGguf, PreTokenizerNames) {
    Metadata metadata;
    write_vocabulary_gguf(demo(), metadata);
    std::string names = known_pre_tokenizers();
    int count = 0;
    for (size_t at = 0; at != std::string::npos; ++count) {
        const size_t comma = names.find(", ", at);
        const std::string name = names.substr(at, comma == std::string::npos ? comma : comma - at);
        at = comma == std::string::npos ? comma : comma + 2;
        metadata.set("tokenizer.ggml.pre", name);
        const Vocabulary v = read_vocabulary_gguf(metadata, "file");
        const std::string text = "Hello World's 12345 caf\xc3\xa9 \xe4\xbd\xa0\xe5\xa5\xbd!\n\n  (x) //";
        const Tokenizer t(v);
        EXPECT_EQ(t.decode(t.encode(text)), text) << name;
        Metadata again;
        write_vocabulary_gguf(v, again);
        EXPECT_EQ(read_vocabulary_gguf(again, "again").patterns, v.patterns) << name;
    }
    EXPECT_GT(count, 50);
}

TEST(VocabularyGguf, Gpt2) {
    const auto model = open_model(data_folder + "gpt-2/vocab.gguf");
    const Vocabulary v = read_vocabulary_gguf(model->metadata, "gpt-2");
    EXPECT_EQ(v.n_tokens(), 50257);
    EXPECT_EQ(v.merges.size(), 50000u);
    EXPECT_EQ(v.bos, 50256);
    EXPECT_EQ(v.types[50256], TokenType::control);
    EXPECT_FALSE(v.nfc);

    Metadata written;
    write_vocabulary_gguf(v, written);
    for (const char* key :
         {"tokens", "merges", "token_type", "pre", "model", "bos_token_id", "eos_token_id"}) {
        const std::string name = std::string("tokenizer.ggml.") + key;
        ASSERT_NE(written.find(name), nullptr) << name;
        EXPECT_TRUE(*written.find(name) == *model->metadata.find(name)) << name;
    }
}

TEST(VocabularyGguf, WrittenAndReadAgain) {
    Vocabulary v = demo();
    v.tokens.resize(v.tokens.size() + 3);  // padding rows
    v.types.resize(v.tokens.size(), TokenType::unused);
    Metadata metadata;
    write_vocabulary_gguf(v, metadata);
    Vocabulary again = read_vocabulary_gguf(metadata, "written");
    EXPECT_EQ(again.tokens.back(), "[PAD8194]");
    EXPECT_EQ(Tokenizer(again).token_bytes(8194), "");
    for (size_t i = 8192; i < 8195; ++i) again.tokens[i].clear();
    expect_same(v, again);

    v.patterns = {"a"};
    expect_error("GGUF has no name for the pre-tokenizer patterns [\"a\"]",
                 [&] { write_vocabulary_gguf(v, metadata); });
}

TEST(VocabularyGguf, ErrorsNameWhatIsWrong) {
    Metadata good;
    write_vocabulary_gguf(demo(), good);
    const auto expect = [&](const std::string& expected, const std::string& key, MetadataValue value) {
        Metadata bad = good;
        bad.set("tokenizer.ggml." + key, std::move(value));
        expect_error(expected, [&] { read_vocabulary_gguf(bad, "file"); });
    };
    expect("tokenizer.ggml.model: expected gpt2", "model", std::string("bert"));
    expect("tokenizer.ggml.pre: expected one of gpt-2, ", "pre", std::string("surprise"));
    expect("tokenizer.ggml.tokens", "tokens", int64_t{3});
    expect("tokenizer.ggml.token_type: expected 8192 entries", "token_type", std::vector<int64_t>{1});
    expect("token 0: expected a type from 0 to 6, found 77", "token_type", std::vector<int64_t>(8192, 77));
    expect("merges: entry 0: expected two tokens, found \"ab\"", "merges", std::vector<std::string>{"ab"});
    expect("merges: entry 0: expected tokens of the vocabulary", "merges", std::vector<std::string>{"qq zz"});
    expect("merges: entry 0: expected two tokens, found \"\"", "merges", std::vector<std::string>{""});
    expect("eos_token_id: token 8192, the vocabulary has 8192", "eos_token_id", int64_t{8192});
    expect_error("tokenizer.ggml.model", [] { read_vocabulary_gguf(Metadata{}, "file"); });
}

TEST(VocabularyQwen3c, WrittenAsByItsExport) {
    const MappedFile expected(data_folder + "demo-5m.bin.tokenizer");
    EXPECT_TRUE(write_vocabulary_qwen3c(demo(), 8181, 8183) == expected.text());
}

TEST(VocabularyQwen3c, MergesComeBackFromScores) {
    for (const bool qwen : {false, true}) {
        Vocabulary v = qwen ? read_json_file(data_folder + "qwen3/tokenizer.json") : demo();
        const int32_t eos = v.n_tokens() - 1;
        const std::string bytes = write_vocabulary_qwen3c(v, 0, eos);
        const int64_t vocab_size = v.n_tokens() + 100;
        const Vocabulary again =
            read_vocabulary_qwen3c(std::as_bytes(std::span(bytes)), vocab_size, "written");
        EXPECT_EQ(again.n_tokens(), vocab_size);
        EXPECT_EQ(again.types.back(), TokenType::unused);
        EXPECT_TRUE(again.merges == v.merges);
        EXPECT_TRUE(std::equal(v.tokens.begin(), v.tokens.end(), again.tokens.begin()));
        EXPECT_EQ(again.added.size(), v.added.size());
        EXPECT_EQ(again.patterns, v.patterns);
        EXPECT_EQ(again.eos, eos);
        EXPECT_TRUE(write_vocabulary_qwen3c(again, 0, eos) == bytes);
        const auto type_of = [&](const char* token) {
            const auto it = std::find(again.tokens.begin(), again.tokens.end(), token);
            return again.types.at(static_cast<size_t>(it - again.tokens.begin()));
        };
        EXPECT_EQ(type_of("<|im_end|>"), TokenType::control);
        EXPECT_EQ(type_of("<think>"), TokenType::user_defined);
    }
}

TEST(VocabularyQwen3c, ErrorsNameWhatIsWrong) {
    const std::string good = write_vocabulary_qwen3c(demo(), 8181, 8183);
    const auto expect = [](const std::string& expected, std::string_view bytes, int64_t vocab_size) {
        expect_error(expected,
                     [&] { read_vocabulary_qwen3c(std::as_bytes(std::span(bytes)), vocab_size, "file"); });
    };
    expect("file: offset 8: eos id: expected 4 bytes, the file has 1 left", good.substr(0, 9), 8192);
    expect("file: the file has no tokens", good.substr(0, 12), 8192);
    expect("token: expected", good.substr(0, good.size() - 1), 8192);
    expect("expected the end of the file after 100 tokens", good, 100);
    expect("the model has 0", good, 0);
    expect("the model has 1000000000000", good, 1'000'000'000'000);
    std::string bad = good;
    const uint32_t eos = 8192;
    std::memcpy(bad.data() + 8, &eos, 4);
    expect("file: eos is token 8192, the vocabulary has 8192", bad, 8192);
    bad = good;
    const float score = 1;
    std::memcpy(bad.data() + 12, &score, 4);
    expect("file: token 0: expected a score", bad, 8192);
    EXPECT_THROW(write_vocabulary_qwen3c(demo(), -1, 8183), Error);
}

// GPT-2's own vocabulary, as the files of its first folders have it.
TEST(LoadTokenizer, VocabularyAndMerges) {
    const Vocabulary v =
        read_vocabulary_gguf(open_model(data_folder + "gpt-2/vocab.gguf")->metadata, "gpt-2");
    std::string vocab = "{", merges = "#version: 0.2\n";
    const auto spelling = [&](int32_t id) { return spell_bytes(v.tokens[static_cast<size_t>(id)]); };
    for (int32_t id = 0; id < v.n_tokens(); ++id) {
        vocab.append(id == 0 ? "" : ",").append(to_string(Json(spelling(id)))).append(":");
        vocab.append(std::to_string(id));
    }
    for (const Merge& m : v.merges) {
        merges.append(spelling(m.left)).append(" ").append(spelling(m.right)).append("\n");
    }
    vocab.append("}");
    const Vocabulary again = read_vocabulary_and_merges(vocab, merges, "vocab.json");
    EXPECT_EQ(again.tokens, v.tokens);
    EXPECT_EQ(again.merges, v.merges);
    EXPECT_EQ(again.types, v.types);
    EXPECT_EQ(again.added, v.added);
    EXPECT_EQ(again.patterns, v.patterns);
    EXPECT_EQ(again.eos, 50256);
    expect_error("vocab.json", [&] { read_vocabulary_and_merges("{\"a\":0", "", "vocab.json"); });
    expect_error("model.merges: entry 0",
                 [&] { read_vocabulary_and_merges("{\"a\":0}", "a b", "vocab.json"); });
}

TEST(LoadTokenizer, NamesWhatIsMissing) {
    expect_error("no-such", [] { load_tokenizer(std::filesystem::path("no-such")); });
    expect_error("no-such", [] { load_tokenizer(std::filesystem::path("no-such/tokenizer.json")); });
}

}  // namespace
}  // namespace smelt
