// What all vocabularies must fulfil, whatever file they came from.
#include "text/vocabulary.h"

#include "base/error.h"
#include "text/unicode.h"

namespace smelt {

std::string show_token(std::string_view token) {
    constexpr size_t max_shown = 40;  // bytes
    std::string text = replace_broken_utf8(std::string(token.substr(0, max_shown)));
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < ' ') c = '?';
    }
    return "\"" + text + (token.size() > max_shown ? "...\"" : "\"");
}

void check_vocabulary(const Vocabulary& v, std::string_view source) {
    if (v.tokens.empty()) throw Error("{}: the vocabulary has no tokens", source);
    if (v.types.size() != v.tokens.size()) {
        throw Error("{}: {} tokens, but {} token types", source, v.tokens.size(), v.types.size());
    }
    if (!v.scores.empty() && v.scores.size() != v.tokens.size()) {
        throw Error("{}: {} tokens, but {} scores", source, v.tokens.size(), v.scores.size());
    }
    constexpr size_t max_patterns = 64;  // each is compiled; real vocabularies have up to 4
    if (v.patterns.size() > max_patterns) {
        throw Error("{}: {} pre-tokenizer patterns, at most {} are accepted", source, v.patterns.size(),
                    max_patterns);
    }
    const auto check_id = [&](std::string_view what, int32_t id) {
        if (id < 0 || id >= v.n_tokens()) {
            throw Error("{}: {} is token {}, the vocabulary has {}", source, what, id, v.n_tokens());
        }
    };
    for (const auto& [name, id] : {std::pair{"bos", v.bos}, {"eos", v.eos}, {"pad", v.pad}, {"unk", v.unk}}) {
        if (id != -1) check_id(name, id);
    }
    for (const AddedToken& token : v.added) check_id("an added token", token.id);
    for (size_t rank = 0; rank < v.merges.size(); ++rank) {
        const Merge& m = v.merges[rank];
        for (const int32_t id : {m.left, m.right, m.result}) {
            if (id < 0 || id >= v.n_tokens()) {
                throw Error("{}: merge {}: token {}, the vocabulary has {}", source, rank, id, v.n_tokens());
            }
        }
        const std::string& left = v.tokens[static_cast<size_t>(m.left)];
        const std::string& right = v.tokens[static_cast<size_t>(m.right)];
        const std::string& result = v.tokens[static_cast<size_t>(m.result)];
        if (left.empty() || right.empty() || result.size() != left.size() + right.size() ||
            !result.starts_with(left) || !result.ends_with(right)) {
            throw Error("{}: merge {}: {} and {} do not make {}", source, rank, show_token(left),
                        show_token(right), show_token(result));
        }
    }
}

}  // namespace smelt
