// The vocabulary in GGUF's metadata, tokenizer.ggml.*. Flags of added tokens get lost.
#include <cmath>

#include "base/error.h"
#include "files/metadata.h"
#include "text/bpe.h"
#include "text/byte_map.h"
#include "text/pre_tokenizer_names.h"
#include "text/sentencepiece.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

// GGUF's token types.
constexpr TokenType type_of_gguf[] = {TokenType::normal,        // 0, undefined
                                      TokenType::normal,        // 1
                                      TokenType::control,       // 2, unknown
                                      TokenType::control,       // 3
                                      TokenType::user_defined,  // 4
                                      TokenType::unused,        // 5
                                      TokenType::byte};         // 6

constexpr int64_t gguf_type_unknown = 2;

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
    const std::string* name = metadata.get_string("tokenizer.ggml.pre");
    const PreTokenizerName* pre = name == nullptr ? nullptr : find_pre_tokenizer(*name);
    if (pre != nullptr) return *pre;
    throw Error("{}: tokenizer.ggml.pre: expected one of {}, found {}", source, known_pre_tokenizers(),
                name == nullptr ? "none" : show_token(*name));
}

std::string token_of(const std::string& spelling, TokenType type, bool sentencepiece) {
    if (sentencepiece && type == TokenType::byte) {
        if (const auto byte = unspell_byte(spelling)) return std::string(1, *byte);
    }
    if (type != TokenType::normal) return spelling;
    return sentencepiece ? unspell_spaces(spelling) : unspell_bytes(spelling).value_or(spelling);
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
        v.tokens.push_back(token_of(spelling, v.types.back(), v.sentencepiece));
        if (v.types.back() == TokenType::control || v.types.back() == TokenType::user_defined) {
            v.added.push_back({.id = static_cast<int32_t>(i), .special = type != 4});
        }
    }
}

void read_merges(const Metadata& metadata, std::string_view source, Vocabulary& v) {
    const auto* merges = metadata.get_strings("tokenizer.ggml.merges");
    if (merges == nullptr) throw Error("{}: tokenizer.ggml.merges is missing", source);
    TokenTable table(v.tokens);
    for (int32_t id = 0; id < v.n_tokens(); ++id) {
        // A byte of SentencePiece looks like the character, but does not merge.
        if (v.types[static_cast<size_t>(id)] != TokenType::byte) table.insert(id);
    }
    v.merges.reserve(merges->size());
    for (const std::string& merge : *merges) {
        // A token may begin with a space where a converter did not spell its bytes.
        const size_t space = merge.find(' ', 1);
        const auto fail = [&](std::string_view expected) {
            throw Error("{}: tokenizer.ggml.merges: entry {}: expected {}, found {}", source, v.merges.size(),
                        expected, show_token(merge));
        };
        if (space == std::string::npos) fail("two tokens");
        const auto unspell = v.sentencepiece ? unspell_spaces : unspell_bytes_or_keep;
        const std::string left = unspell(merge.substr(0, space));
        const std::string right = unspell(merge.substr(space + 1));
        const Merge m = {table.find(left), table.find(right), table.find(left + right)};
        if (m.left < 0 || m.right < 0 || m.result < 0) fail("tokens of the vocabulary that make another");
        v.merges.push_back(m);
    }
}

void read_scores(const Metadata& metadata, std::string_view source, Vocabulary& v) {
    const auto* scores = metadata.get_doubles("tokenizer.ggml.scores");
    if (scores == nullptr) throw Error("{}: tokenizer.ggml.scores is missing", source);
    if (scores->size() != v.tokens.size()) {
        throw Error("{}: tokenizer.ggml.scores: expected {} entries, one a token, found {}", source,
                    v.tokens.size(), scores->size());
    }
    for (const double score : *scores) {
        // NaN has no place in an order.
        if (!std::isfinite(score)) throw Error("{}: tokenizer.ggml.scores: found {}", source, score);
        v.scores.push_back(static_cast<float>(score));
    }
    v.merges = merges_by_score(v);
}

int32_t read_id(const Metadata& metadata, std::string_view key, std::string_view source, const Vocabulary& v,
                int64_t fallback) {
    const auto id = metadata.get_int(key);
    if (!id) return fallback < v.n_tokens() ? static_cast<int32_t>(fallback) : -1;
    if (*id == 0xffffffff || *id == -1) return -1;  // converters write this for "none"
    if (*id < 0 || *id >= v.n_tokens()) {
        throw Error("{}: {}: token {}, the vocabulary has {}", source, key, *id, v.n_tokens());
    }
    return static_cast<int32_t>(*id);
}

// SentencePiece has its scores, or the merges of a tokenizer.json that was converted.
void read_sentencepiece(const Metadata& metadata, std::string_view source, Vocabulary& v) {
    v.sentencepiece = true;
    v.add_prefix_space = metadata.get_bool("tokenizer.ggml.add_space_prefix").value_or(true);
    v.prefix_always = v.add_prefix_space;
    read_tokens(metadata, source, v);
    if (metadata.find("tokenizer.ggml.merges") != nullptr) {
        read_merges(metadata, source, v);
    } else {
        read_scores(metadata, source, v);
    }
}

void read_byte_level(const Metadata& metadata, std::string_view source, Vocabulary& v) {
    const PreTokenizerName& pre = pre_tokenizer_of(metadata, source);
    v.patterns = pre.list();
    v.nfc = pre.nfc;
    v.ignore_merges = pre.ignore_merges;
    v.add_bos = pre.add_bos;
    v.add_prefix_space = metadata.get_bool("tokenizer.ggml.add_space_prefix").value_or(false);
    read_tokens(metadata, source, v);
    read_merges(metadata, source, v);
}

}  // namespace

Vocabulary read_vocabulary_gguf(const Metadata& metadata, std::string_view source) {
    const std::string* model = metadata.get_string("tokenizer.ggml.model");
    Vocabulary v;
    // What files leave out is as in Llama's vocabulary.
    int64_t bos = -1, eos = -1, unk = -1;
    if (model != nullptr && *model == "llama") {
        read_sentencepiece(metadata, source, v);
        v.add_bos = true;
        bos = 1;
        eos = 2;
        unk = 0;
    } else if (model != nullptr && *model == "gpt2") {
        read_byte_level(metadata, source, v);
    } else {
        throw Error(
            "{}: tokenizer.ggml.model: expected gpt2 (byte-level BPE) or llama (SentencePiece's BPE), found "
            "{}",
            source, model == nullptr ? "none" : show_token(*model));
    }
    v.bos = read_id(metadata, "tokenizer.ggml.bos_token_id", source, v, bos);
    v.eos = read_id(metadata, "tokenizer.ggml.eos_token_id", source, v, eos);
    v.pad = read_id(metadata, "tokenizer.ggml.padding_token_id", source, v, -1);
    v.unk = read_id(metadata, "tokenizer.ggml.unknown_token_id", source, v, unk);
    v.add_bos = metadata.get_bool("tokenizer.ggml.add_bos_token").value_or(v.add_bos);
    v.add_eos = metadata.get_bool("tokenizer.ggml.add_eos_token").value_or(false);
    check_vocabulary(v, source);
    return v;
}

namespace {

std::string gguf_spelling(const Vocabulary& v, int32_t id) {
    const auto i = static_cast<size_t>(id);
    if (v.types[i] == TokenType::unused && v.tokens[i].empty()) return fmt::format("[PAD{}]", id);
    if (v.sentencepiece) return sentencepiece_spelling(v, id);
    return v.types[i] == TokenType::normal ? spell_bytes(v.tokens[i]) : v.tokens[i];
}

// Where merges come without scores, those that lead to the same order.
std::vector<double> gguf_scores(const Vocabulary& v) {
    if (!v.scores.empty()) return {v.scores.begin(), v.scores.end()};
    std::vector<double> scores(v.tokens.size(), -static_cast<double>(v.merges.size()));
    for (size_t rank = v.merges.size(); rank-- > 0;) {
        scores[static_cast<size_t>(v.merges[rank].result)] = -static_cast<double>(rank);
    }
    return scores;
}

}  // namespace

void write_vocabulary_gguf(const Vocabulary& v, Metadata& metadata) {
    if (v.sentencepiece) {
        if (!v.patterns.empty() || v.prefix_once || v.prefix_always != v.add_prefix_space) {
            throw Error(
                "vocabulary: GGUF cannot say where this SentencePiece vocabulary puts its first space");
        }
        metadata.set("tokenizer.ggml.model", std::string("llama"));
        metadata.set("tokenizer.ggml.pre", std::string("default"));
        metadata.set("tokenizer.ggml.add_space_prefix", v.add_prefix_space);
        metadata.set("tokenizer.ggml.scores", gguf_scores(v));
    } else {
        const PreTokenizerName* pre = name_of_patterns(v.patterns);
        if (pre == nullptr) {
            throw Error("vocabulary: GGUF has no name for the pre-tokenizer patterns {}",
                        to_string(Json(v.patterns)));
        }
        metadata.set("tokenizer.ggml.model", std::string("gpt2"));
        metadata.set("tokenizer.ggml.pre", std::string(pre->name));
        if (v.add_prefix_space) metadata.set("tokenizer.ggml.add_space_prefix", true);
    }

    std::vector<std::string> tokens, merges;
    std::vector<int64_t> types;
    for (int32_t id = 0; id < v.n_tokens(); ++id) {
        tokens.push_back(gguf_spelling(v, id));
        const bool unknown = v.sentencepiece && id == v.unk;
        types.push_back(unknown ? gguf_type_unknown : gguf_type_of(v.types[static_cast<size_t>(id)]));
    }
    for (const Merge& m : v.merges)
        merges.push_back(gguf_spelling(v, m.left) + " " + gguf_spelling(v, m.right));
    metadata.set("tokenizer.ggml.tokens", std::move(tokens));
    metadata.set("tokenizer.ggml.token_type", std::move(types));
    if (v.scores.empty()) metadata.set("tokenizer.ggml.merges", std::move(merges));
    for (const auto& [key, id] : {std::pair{"tokenizer.ggml.bos_token_id", v.bos},
                                  {"tokenizer.ggml.eos_token_id", v.eos},
                                  {"tokenizer.ggml.padding_token_id", v.pad},
                                  {"tokenizer.ggml.unknown_token_id", v.unk}}) {
        if (id >= 0) metadata.set(key, int64_t{id});
    }
    metadata.set("tokenizer.ggml.add_bos_token", v.add_bos);
    if (v.add_eos) metadata.set("tokenizer.ggml.add_eos_token", true);
}

}  // namespace smelt
