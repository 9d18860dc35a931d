// Text to ids end to end: added tokens, normalisation, pieces, merges.
#include "text/tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/nfc.h"
#include "text/pre_tokenizer.h"
#include "text/sentencepiece.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace smelt {

struct Tokenizer::Impl {
    Vocabulary vocabulary;
    BytePairEncoder bpe;
    PreTokenizer pre_tokenizer;
    AddedTokenMatcher in_raw_text, in_normalised_text;
    std::unordered_map<std::string_view, int32_t> added_ids;  // keys are of vocabulary.tokens

    explicit Impl(Vocabulary v)
        : vocabulary(std::move(v)), bpe(vocabulary), pre_tokenizer(vocabulary.patterns) {
        for (const AddedToken& token : vocabulary.added) {
            const std::string& text = vocabulary.tokens[static_cast<size_t>(token.id)];
            added_ids.try_emplace(text, token.id);
            std::string buffer;
            if (token.normalized) {
                in_normalised_text.insert(token, normalise(text, buffer));
            } else {
                in_raw_text.insert(token, text);
            }
        }
    }

    std::string_view normalise(std::string_view text, std::string& buffer) const {
        return vocabulary.nfc ? nfc(text, buffer) : text;
    }

    // first: nothing stands before it.
    void encode_text(std::string_view text, bool first, std::vector<int32_t>& ids) const {
        std::string unmarked, with_space;
        if (vocabulary.sentencepiece) {  // which cannot tell "▁" from a space
            unmarked = unspell_spaces(text);
            text = unmarked;
        }
        const bool wanted = vocabulary.add_prefix_space && (first || !vocabulary.prefix_once);
        if (wanted && (vocabulary.prefix_always || text[0] != ' ')) {
            with_space.append(" ").append(text);
            text = with_space;
        }
        pre_tokenizer.split(text, [&](std::string_view piece) { bpe.encode(piece, ids); });
    }

    // Text between the added tokens that are looked for before normalisation.
    void encode_raw(std::string_view raw, bool first, bool parse_special, std::vector<int32_t>& ids) const {
        std::string buffer;
        const std::string_view text = normalise(raw, buffer);
        if (in_normalised_text.empty()) {
            encode_text(text, first, ids);
            return;
        }
        for (const auto& part : in_normalised_text.split(text, parse_special)) {
            if (part.id >= 0) {
                ids.push_back(part.id);
            } else {
                encode_text(part.text, first && part.text.data() == text.data(), ids);
            }
        }
    }
};

Tokenizer::Tokenizer(Vocabulary vocabulary) {
    check_vocabulary(vocabulary, "vocabulary");
    impl_ = std::make_unique<Impl>(std::move(vocabulary));
}

Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
    const Vocabulary& v = impl_->vocabulary;
    if (text.size() > max_text_bytes) {
        throw Error("text of {} bytes, at most {} can be tokenized at once", text.size(), max_text_bytes);
    }
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 4 + 2);  // English has 4 to 5 bytes a token
    if (options.add_special && v.add_bos && v.bos >= 0) ids.push_back(v.bos);
    for (const auto& part : impl_->in_raw_text.split(text, options.parse_special, options.plain_at)) {
        if (part.id >= 0) {
            ids.push_back(part.id);
            continue;
        }
        const bool first = part.text.data() == text.data();
        // Offsets do not outlive normalisation.
        const auto begin = static_cast<size_t>(part.text.data() - text.data());
        const auto plain = std::ranges::lower_bound(options.plain_at, begin);
        const bool trusted = plain == options.plain_at.end() || *plain >= begin + part.text.size();
        impl_->encode_raw(part.text, first, options.parse_special && trusted, ids);
    }
    if (options.add_special && v.add_eos && v.eos >= 0) ids.push_back(v.eos);
    return ids;
}

std::string Tokenizer::break_special(std::string_view text, std::string_view by) const {
    std::string broken(text);
    // More than once, because behind a token that is broken another one may begin inside of it.
    constexpr int max_passes = 8;
    bool again = true;
    for (int pass = 0; again && pass < max_passes; ++pass) {
        again = false;
        for (const AddedTokenMatcher* matcher : {&impl_->in_raw_text, &impl_->in_normalised_text}) {
            std::string next;
            for (const auto& part : matcher->split(broken, true)) {
                next += part.text;
                if (!is_special(part.id)) continue;
                // Behind its first character, which may follow white space that belongs to the token.
                const size_t found = part.text.find(token_bytes(part.id));
                const std::string_view token = part.text.substr(found == std::string_view::npos ? 0 : found);
                const auto first =
                    static_cast<size_t>(decode_utf8(token.data(), token.data() + token.size()).length);
                next.insert(next.size() - token.size() + first, by);
                again = true;
            }
            broken = std::move(next);
        }
    }
    return broken;
}

std::string_view Tokenizer::token_bytes(int32_t id) const {
    const Vocabulary& v = impl_->vocabulary;
    if (id < 0 || id >= v.n_tokens()) return {};
    const auto i = static_cast<size_t>(id);
    return v.types[i] == TokenType::unused ? std::string_view{} : v.tokens[i];
}

bool Tokenizer::is_special(int32_t id) const {
    const Vocabulary& v = impl_->vocabulary;
    return id >= 0 && id < v.n_tokens() && v.types[static_cast<size_t>(id)] == TokenType::control;
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
    std::string bytes;
    for (const int32_t id : ids) {
        if (!skip_special || !is_special(id)) bytes += token_bytes(id);
    }
    if (drops_first_space() && bytes.starts_with(' ')) bytes.erase(0, 1);
    return replace_broken_utf8(std::move(bytes));
}

bool Tokenizer::drops_first_space() const {
    return impl_->vocabulary.sentencepiece && impl_->vocabulary.add_prefix_space;
}

int32_t Tokenizer::find(std::string_view token) const {
    const auto added = impl_->added_ids.find(token);
    return added != impl_->added_ids.end() ? added->second : impl_->bpe.find(token);
}

int32_t Tokenizer::n_tokens() const {
    return impl_->vocabulary.n_tokens();
}

int32_t Tokenizer::bos() const {
    return impl_->vocabulary.bos;
}

int32_t Tokenizer::eos() const {
    return impl_->vocabulary.eos;
}

const Vocabulary& Tokenizer::vocabulary() const {
    return impl_->vocabulary;
}

}  // namespace smelt
