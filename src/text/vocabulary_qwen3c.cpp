// The .tokenizer file of qwen3.c: u32 longest token in characters, u32 bos, u32 eos, then for each token f32
// score, u32 length, bytes. A merge is known by its result alone: score = -ln(rank + 1); everything else has
// -1e6. The patterns are Qwen's.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/byte_reader.h"
#include "base/error.h"
#include "text/bpe.h"
#include "text/byte_map.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace smelt {

namespace {

constexpr float no_merge = -1e6f;

struct Scored {
    float score;
    int32_t id;
};

// The file does not say which tokens are special: those that look like "<|im_end|>".
bool looks_like_control(std::string_view token) {
    return token.size() >= 4 && token.starts_with("<|") && token.ends_with("|>");
}

// The pair that makes each token is what merges of lower rank leave of its bytes. Tokens that are left in
// more than two parts are out of reach of any text.
void derive_merges(const std::vector<Scored>& by_rank, Vocabulary& v) {
    std::array<int32_t, 256> byte_ids;
    byte_ids.fill(-1);
    for (int32_t id = v.n_tokens() - 1; id >= 0; --id) {
        const std::string& bytes = v.tokens[static_cast<size_t>(id)];
        if (bytes.size() == 1) byte_ids[static_cast<unsigned char>(bytes[0])] = id;
    }
    MergeTable table(by_rank.size());
    std::vector<int32_t> symbols;
    for (const Scored& scored : by_rank) {
        symbols.clear();
        for (const char c : v.tokens[static_cast<size_t>(scored.id)]) {
            symbols.push_back(byte_ids[static_cast<unsigned char>(c)]);
        }
        if (symbols.size() <= max_short_piece) {
            symbols.resize(merge_short(symbols.data(), symbols.size(), table));
        } else {
            merge_long(symbols, table);
        }
        if (symbols.size() != 2 || symbols[0] < 0 || symbols[1] < 0) continue;
        const Merge merge = {symbols[0], symbols[1], scored.id};
        table.insert(merge, static_cast<uint32_t>(v.merges.size()));
        v.merges.push_back(merge);
    }
}

}  // namespace

Vocabulary read_vocabulary_qwen3c(std::span<const std::byte> bytes, int64_t vocab_size,
                                  std::string_view source) {
    constexpr int64_t max_vocab = 1 << 24;
    if (vocab_size <= 0 || vocab_size > max_vocab) {
        throw Error("{}: expected a vocabulary of 1 to {} tokens, the model has {}", source, max_vocab,
                    vocab_size);
    }
    ByteReader in(bytes, std::string(source));
    in.read<uint32_t>("longest token");
    const auto bos = in.read<uint32_t>("bos id");
    const auto eos = in.read<uint32_t>("eos id");

    Vocabulary v;
    std::vector<Scored> by_rank;
    while (in.remaining() > 0) {
        const int32_t id = v.n_tokens();
        if (id == vocab_size) {
            throw Error("{}: offset {}: expected the end of the file after {} tokens, found {} bytes more",
                        source, in.position(), vocab_size, in.remaining());
        }
        const auto score = in.read<float>("score");
        const auto length = in.read<uint32_t>("token length");
        const auto text = in.take(length, "token");
        v.tokens.emplace_back(reinterpret_cast<const char*>(text.data()), text.size());
        if (std::isnan(score) || score > 0) {
            throw Error("{}: token {}: expected a score of -ln(rank + 1) or {}, found {}", source, id,
                        no_merge, score);
        }
        const std::string& token = v.tokens.back();
        TokenType type = TokenType::normal;
        if (token.empty()) {
            type = TokenType::unused;
        } else if (score > no_merge) {
            by_rank.push_back({score, id});
        } else if (token.size() > 1) {
            type = looks_like_control(token) ? TokenType::control : TokenType::user_defined;
            v.added.push_back({.id = id, .special = type == TokenType::control});
        }
        v.types.push_back(type);
    }
    if (v.tokens.empty()) throw Error("{}: the file has no tokens", source);
    v.tokens.resize(static_cast<size_t>(vocab_size));
    v.types.resize(static_cast<size_t>(vocab_size), TokenType::unused);

    std::stable_sort(by_rank.begin(), by_rank.end(),
                     [](const Scored& a, const Scored& b) { return a.score > b.score; });
    derive_merges(by_rank, v);
    v.patterns.emplace_back(qwen2_pattern);
    v.nfc = true;
    for (const auto& [name, id] : {std::pair{"bos", bos}, {"eos", eos}}) {
        if (id >= static_cast<uint64_t>(vocab_size)) {
            throw Error("{}: {} is token {}, the vocabulary has {}", source, name, id, vocab_size);
        }
    }
    v.bos = static_cast<int32_t>(bos);
    v.eos = static_cast<int32_t>(eos);
    check_vocabulary(v, source);
    return v;
}

std::string write_vocabulary_qwen3c(const Vocabulary& v, int32_t bos, int32_t eos) {
    if (v.sentencepiece) throw Error("qwen3.c tokenizer: cannot hold a SentencePiece vocabulary");
    for (const auto& [name, id] : {std::pair{"bos", bos}, {"eos", eos}}) {
        if (id < 0 || id >= v.n_tokens()) {
            throw Error("qwen3.c tokenizer: {} is token {}, the vocabulary has {}", name, id, v.n_tokens());
        }
    }
    if (v.patterns.size() != 1 || v.patterns[0] != qwen2_pattern) {
        throw Error("qwen3.c tokenizer: expected Qwen's pre-tokenizer pattern, the vocabulary has {}",
                    to_string(Json(v.patterns)));
    }
    std::vector<float> scores(v.tokens.size(), no_merge);
    for (size_t rank = 0; rank < v.merges.size(); ++rank) {
        scores[static_cast<size_t>(v.merges[rank].result)] =
            static_cast<float>(-std::log(static_cast<double>(rank + 1)));
    }
    size_t n_records = v.tokens.size();
    while (n_records > 0 && v.types[n_records - 1] == TokenType::unused) --n_records;

    std::string out;
    const auto put = [&](auto value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
    const auto put_id = [&](int32_t id) { put(static_cast<uint32_t>(id)); };
    put(uint32_t{0});  // longest token, known at the end
    put_id(bos);
    put_id(eos);
    uint32_t longest = 0;
    for (size_t id = 0; id < n_records; ++id) {
        // Added tokens too go through the byte map in qwen3.c's export, character by character.
        const bool literal = v.types[id] != TokenType::normal;
        const std::string bytes = literal ? unspell_bytes_or_keep(v.tokens[id]) : v.tokens[id];
        uint32_t n_chars = 0;
        for (const char c : literal ? v.tokens[id] : spell_bytes(v.tokens[id])) {
            n_chars += (static_cast<unsigned char>(c) & 0xc0u) != 0x80 ? 1 : 0;
        }
        longest = std::max(longest, n_chars);
        put(scores[id]);
        put(static_cast<uint32_t>(bytes.size()));
        out += bytes;
    }
    std::memcpy(out.data(), &longest, sizeof longest);
    return out;
}

}  // namespace smelt
