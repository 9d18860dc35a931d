// Text <-> token ids with a model's own vocabulary. Immutable after construction; one instance serves all
// threads.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct ModelFile;
struct Vocabulary;

struct EncodeOptions {
    bool add_special = false;  // BOS (and EOS) where the vocabulary asks for it
    bool parse_special =
        true;  // "<|im_end|>" in the text becomes the control token; false for untrusted pieces
    // Ascending offsets: what a control token has one of inside is no control token, but text.
    std::span<const size_t> plain_at = {};
};

class Tokenizer {
 public:
    // Throws Error where the vocabulary is damaged.
    explicit Tokenizer(Vocabulary vocabulary);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;

    // Longer texts are refused with an Error: positions in them are 32-bit.
    static constexpr size_t max_text_bytes = size_t{1} << 31;

    // Any bytes; those that are not UTF-8 are encoded as they are. Linear in the length.
    std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

    // The text with `by` inside of everything that encode() would take for a control token.
    std::string break_special(std::string_view text, std::string_view by) const;

    // Bytes of one token as it stands in text; empty for an id that has none (padding rows of the
    // vocabulary). Special tokens give their text ("<|im_end|>").
    std::string_view token_bytes(int32_t id) const;
    bool is_special(int32_t id) const;  // control tokens: not shown in an answer

    // Bytes joined; skip_special leaves control tokens out. Broken UTF-8 becomes U+FFFD. The space that
    // encode() put in front, where the vocabulary asks for it, is taken away.
    std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

    bool drops_first_space() const;

    int32_t find(
        std::string_view token) const;  // id of the token with exactly these bytes, -1 where there is none
    int32_t n_tokens() const;
    int32_t bos() const;  // -1 where there is none
    int32_t eos() const;
    const Vocabulary& vocabulary() const;

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// The tokenizer of an opened model. Throws Error where it has none.
Tokenizer load_tokenizer(const ModelFile& model);
// The same from a model path or a bare tokenizer.json.
Tokenizer load_tokenizer(const std::filesystem::path& path);

// Joins token bytes into text that is whole UTF-8 at every moment: bytes of an unfinished character are held
// back.
class StreamDecoder {
 public:
    explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
        : tokenizer_(&tokenizer), skip_special_(skip_special), drop_space_(tokenizer.drops_first_space()) {}
    // For tokens that go on in a text, which keep their first space.
    void keep_first_space() { drop_space_ = false; }
    std::string push(int32_t id);  // text that became complete
    std::string finish();          // what was held back, broken bytes as U+FFFD

 private:
    const Tokenizer* tokenizer_;
    bool skip_special_;
    bool drop_space_;  // of the first text
    std::string held_;
};

}  // namespace smelt
