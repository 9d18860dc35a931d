// A tokenizer's data as plain values, whatever file it came from: byte-level BPE, or SentencePiece's BPE over
// characters. The rules that use it are in tokenizer.h. What a container cannot say (GGUF and qwen3.c have no
// flags of added tokens) takes the value that the models using that container have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace smelt {

class Metadata;
struct ModelFile;

enum class TokenType : uint8_t {
    normal,        // reached by merges
    control,       // "<|im_end|>": steers, is not shown
    user_defined,  // "<think>": matched as a whole in text, shown
    unused,        // an id without text (padding rows)
    byte,          // SentencePiece: one byte of a character that has no token
};

struct Merge {
    int32_t left, right, result;  // token ids
    bool operator==(const Merge&) const = default;
};

// A token found in the text as a whole, before the text is split.
struct AddedToken {
    int32_t id = -1;
    bool special = false;      // a control token
    bool lstrip = false;       // takes the white space before it
    bool rstrip = false;       // takes the white space behind it
    bool single_word = false;  // only where no word character touches it
    bool normalized = false;   // looked for in the normalised text
    bool operator==(const AddedToken&) const = default;
};

struct Vocabulary {
    std::vector<std::string> tokens;  // by id: the bytes as they stand in text; may be broken UTF-8
    std::vector<TokenType> types;     // by id
    std::vector<Merge> merges;        // by rank, first is strongest
    std::vector<AddedToken> added;

    // Regular expressions that cut text into the pieces within which merges happen, applied in order; what
    // none of the matches covers is a piece too.
    std::vector<std::string> patterns;
    bool nfc = false;               // text is brought to NFC first
    bool add_prefix_space = false;  // text gets a space in front where it has none
    bool ignore_merges = false;     // a piece that is a token is that token, whatever merges say

    // SentencePiece: merges begin from characters, and those without a token from their bytes' tokens.
    bool sentencepiece = false;
    bool prefix_always = false;  // add_prefix_space even where the text has one
    bool prefix_once = false;    // add_prefix_space not behind added tokens
    std::vector<float> scores;   // by id, or empty; merges into tokens of one score have one rank

    int32_t bos = -1, eos = -1, pad = -1, unk = -1;  // -1: none
    bool add_bos = false, add_eos = false;

    int32_t n_tokens() const { return static_cast<int32_t>(tokens.size()); }
};

// The known pre-tokenizer patterns, as they stand in tokenizer.json.
inline constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

inline constexpr std::string_view o200k_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
    R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
inline constexpr std::string_view tekken_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// SentencePiece's words with the space before them.
inline constexpr std::string_view metaspace_pattern = " [^ ]*|[^ ]+";

// A special token's text in an error: printable and short.
std::string show_token(std::string_view token);

// Throws Error where ids, sizes or merges do not fit together; readers and Tokenizer call it.
void check_vocabulary(const Vocabulary& v, std::string_view source);

// --- Readers. `source` names the file in errors. ---

// tokenizer.json of Hugging Face.
Vocabulary read_vocabulary_json(std::string_view text, std::string_view source);
// The two files that older folders have instead, of GPT-2's kind: vocab.json and merges.txt.
Vocabulary read_vocabulary_and_merges(std::string_view vocab, std::string_view merges,
                                      std::string_view source);
// bos, eos, pad, unk and add_bos from tokenizer_config.json.
void read_tokenizer_config(Vocabulary& v, std::string_view text, std::string_view source);
// tokenizer.ggml.*
Vocabulary read_vocabulary_gguf(const Metadata& metadata, std::string_view source);
// The .tokenizer file of qwen3.c. It has no count: vocab_size comes from the .bin.
Vocabulary read_vocabulary_qwen3c(std::span<const std::byte> bytes, int64_t vocab_size,
                                  std::string_view source);

// --- Writers. Throw Error where the target cannot say what the vocabulary needs. ---

std::string write_vocabulary_json(const Vocabulary& v);
// The members of tokenizer_config.json that belong to the vocabulary.
Json write_tokenizer_config(const Vocabulary& v);
void write_vocabulary_gguf(const Vocabulary& v, Metadata& metadata);
// The keys that a GGUF file of this model needs beside those of its own metadata; empty where it has them,
// or no vocabulary at all.
Metadata gguf_vocabulary(const ModelFile& model);
bool has_vocabulary(const ModelFile& model);
// Byte for byte as qwen3.c's export. bos and eos are those of config.json.
std::string write_vocabulary_qwen3c(const Vocabulary& v, int32_t bos, int32_t eos);

}  // namespace smelt
