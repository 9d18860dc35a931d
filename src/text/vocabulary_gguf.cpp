// The vocabulary in GGUF's metadata, tokenizer.ggml.*. GGUF names pre-tokenizers instead of giving patterns;
// the name also decides about NFC and ignore_merges. Flags of added tokens get lost.
#include <algorithm>

#include "base/error.h"
#include "files/metadata.h"
#include "text/bpe.h"
#include "text/byte_map.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

struct PreTokenizerName {
    std::string_view name;
    std::string_view pattern;
    bool nfc, ignore_merges, add_bos;  // as the models of this name have it
};

// The first entry with a vocabulary's pattern is the name that is written.
constexpr bool yes = true, no = false;
constexpr PreTokenizerName pre_tokenizer_names[] = {
    {"gpt-2", gpt2_pattern, no, no, no},
    {"phi-2", gpt2_pattern, no, no, no},
    {"mpt", gpt2_pattern, no, no, no},
    {"olmo", gpt2_pattern, no, no, no},
    {"jina-es", gpt2_pattern, no, no, no},
    {"jina-de", gpt2_pattern, no, no, no},
    {"llama-bpe", llama3_pattern, no, yes, yes},
    {"llama3", llama3_pattern, no, yes, yes},
    {"llama-v3", llama3_pattern, no, yes, yes},
    {"qwen2", qwen2_pattern, yes, no, no},
    {"deepseek-r1-qwen", qwen2_pattern, yes, no, no},
};

// GGUF's token types.
constexpr TokenType type_of_gguf[] = {TokenType::normal,        // 0, undefined
                                      TokenType::normal,        // 1
                                      TokenType::control,       // 2, unknown
                                      TokenType::control,       // 3
                                      TokenType::user_defined,  // 4
                                      TokenType::unused,        // 5
                                      TokenType::byte};         // 6

int64_t gguf_type_of(TokenType type) {
    switch (type) {
        case TokenType::normal:
            return 1;
        case TokenType::control:
            return 3;
        case TokenType::user_defined:
            return 4;
        case TokenType::unused:
            return 5;
        case TokenType::byte:
            return 6;
    }
    return 0;
}

const PreTokenizerName& pre_tokenizer_of(const Metadata& metadata, std::string_view source) {
    const std::string* pre = metadata.get_string("tokenizer.ggml.pre");
    std::string known;
    for (const auto& p : pre_tokenizer_names) {
        if (pre != nullptr && *pre == p.name) return p;
        known.append(known.empty() ? "" : ", ").append(p.name);
    }
    throw Error("{}: tokenizer.ggml.pre: expected one of {}, found {}", source, known,
                pre == nullptr ? "none" : show_token(*pre));
}

void read_tokens(const Metadata& metadata, std::string_view source, Vocabulary& v) {
    const auto* spellings = metadata.get_strings("tokenizer.ggml.tokens");
    if (spellings == nullptr) throw Error("{}: tokenizer.ggml.tokens is missing", source);
    const auto* types = metadata.get_ints("tokenizer.ggml.token_type");
    if (types != nullptr && types->size() != spellings->size()) {
        throw Error("{}: tokenizer.ggml.token_type: expected {} entries, one a token, found {}", source,
                    spellings->size(), types->size());
    }
    v.tokens.reserve(spellings->size());
    v.types.reserve(spellings->size());
    for (size_t i = 0; i < spellings->size(); ++i) {
        const std::string& spelling = (*spellings)[i];
        const int64_t type = types == nullptr ? 1 : (*types)[i];
        if (type < 0 || type >= static_cast<int64_t>(std::size(type_of_gguf))) {
            throw Error("{}: tokenizer.ggml.token_type: token {}: expected a type from 0 to 6, found {}",
                        source, i, type);
        }
        v.types.push_back(type_of_gguf[type]);
        const bool literal = v.types.back() != TokenType::normal;
        v.tokens.push_back(literal ? spelling : unspell_bytes(spelling).value_or(spelling));
        if (v.types.back() == TokenType::control || v.types.back() == TokenType::user_defined) {
            v.added.push_back({.id = static_cast<int32_t>(i), .special = type != 4});
        }
    }
}

void read_merges(const Metadata& metadata, std::string_view source, Vocabulary& v) {
    const auto* merges = metadata.get_strings("tokenizer.ggml.merges");
    if (merges == nullptr) throw Error("{}: tokenizer.ggml.merges is missing", source);
    TokenTable table(v.tokens);
    for (int32_t id = 0; id < v.n_tokens(); ++id) table.insert(id);
    v.merges.reserve(merges->size());
    for (const std::string& merge : *merges) {
        // A token may begin with a space where a converter did not spell its bytes.
        const size_t space = merge.find(' ', 1);
        const auto fail = [&](std::string_view expected) {
            throw Error("{}: tokenizer.ggml.merges: entry {}: expected {}, found {}", source, v.merges.size(),
                        expected, show_token(merge));
        };
        if (space == std::string::npos) fail("two tokens");
        const std::string left = unspell_bytes_or_keep(merge.substr(0, space));
        const std::string right = unspell_bytes_or_keep(merge.substr(space + 1));
        const Merge m = {table.find(left), table.find(right), table.find(left + right)};
        if (m.left < 0 || m.right < 0 || m.result < 0) fail("tokens of the vocabulary that make another");
        v.merges.push_back(m);
    }
}

int32_t read_id(const Metadata& metadata, std::string_view key, std::string_view source,
                const Vocabulary& v) {
    const auto id = metadata.get_int(key);
    if (!id) return -1;
    if (*id == 0xffffffff || *id == -1) return -1;  // converters write this for "none"
    if (*id < 0 || *id >= v.n_tokens()) {
        throw Error("{}: {}: token {}, the vocabulary has {}", source, key, *id, v.n_tokens());
    }
    return static_cast<int32_t>(*id);
}

}  // namespace

Vocabulary read_vocabulary_gguf(const Metadata& metadata, std::string_view source) {
    const std::string* model = metadata.get_string("tokenizer.ggml.model");
    if (model == nullptr || *model != "gpt2") {
        throw Error(
            "{}: tokenizer.ggml.model: expected gpt2 (byte-level BPE; others are not supported yet), "
            "found {}",
            source, model == nullptr ? "none" : show_token(*model));
    }
    const PreTokenizerName& pre = pre_tokenizer_of(metadata, source);
    Vocabulary v;
    v.patterns.emplace_back(pre.pattern);
    v.nfc = pre.nfc;
    v.ignore_merges = pre.ignore_merges;
    v.add_prefix_space = metadata.get_bool("tokenizer.ggml.add_space_prefix").value_or(false);
    read_tokens(metadata, source, v);
    read_merges(metadata, source, v);
    v.bos = read_id(metadata, "tokenizer.ggml.bos_token_id", source, v);
    v.eos = read_id(metadata, "tokenizer.ggml.eos_token_id", source, v);
    v.pad = read_id(metadata, "tokenizer.ggml.padding_token_id", source, v);
    v.unk = read_id(metadata, "tokenizer.ggml.unknown_token_id", source, v);
    v.add_bos = metadata.get_bool("tokenizer.ggml.add_bos_token").value_or(pre.add_bos);
    v.add_eos = metadata.get_bool("tokenizer.ggml.add_eos_token").value_or(false);
    check_vocabulary(v, source);
    return v;
}

void write_vocabulary_gguf(const Vocabulary& v, Metadata& metadata) {
    const auto* pre = std::find_if(
        std::begin(pre_tokenizer_names), std::end(pre_tokenizer_names),
        [&](const PreTokenizerName& p) { return v.patterns.size() == 1 && v.patterns[0] == p.pattern; });
    if (pre == std::end(pre_tokenizer_names)) {
        throw Error("vocabulary: GGUF has no name for the pre-tokenizer patterns {}",
                    to_string(Json(v.patterns)));
    }
    metadata.set("tokenizer.ggml.model", std::string("gpt2"));
    metadata.set("tokenizer.ggml.pre", std::string(pre->name));

    std::vector<std::string> tokens, merges;
    std::vector<int64_t> types;
    for (size_t i = 0; i < v.tokens.size(); ++i) {
        const bool unnamed = v.types[i] == TokenType::unused && v.tokens[i].empty();
        tokens.push_back(v.types[i] == TokenType::normal ? spell_bytes(v.tokens[i])
                         : unnamed                       ? fmt::format("[PAD{}]", i)
                                                         : v.tokens[i]);
        types.push_back(gguf_type_of(v.types[i]));
    }
    for (const Merge& m : v.merges) {
        merges.push_back(spell_bytes(v.tokens[static_cast<size_t>(m.left)]) + " " +
                         spell_bytes(v.tokens[static_cast<size_t>(m.right)]));
    }
    metadata.set("tokenizer.ggml.tokens", std::move(tokens));
    metadata.set("tokenizer.ggml.token_type", std::move(types));
    metadata.set("tokenizer.ggml.merges", std::move(merges));
    for (const auto& [key, id] : {std::pair{"tokenizer.ggml.bos_token_id", v.bos},
                                  {"tokenizer.ggml.eos_token_id", v.eos},
                                  {"tokenizer.ggml.padding_token_id", v.pad},
                                  {"tokenizer.ggml.unknown_token_id", v.unk}}) {
        if (id >= 0) metadata.set(key, int64_t{id});
    }
    metadata.set("tokenizer.ggml.add_bos_token", v.add_bos);
    if (v.add_eos) metadata.set("tokenizer.ggml.add_eos_token", true);
    if (v.add_prefix_space) metadata.set("tokenizer.ggml.add_space_prefix", true);
}

}  // namespace smelt
