// StreamDecoder: between pushes it holds at most the three bytes of an unfinished character.
#include "text/tokenizer.h"
#include "text/unicode.h"

namespace smelt {

std::string StreamDecoder::push(int32_t id) {
    if (skip_special_ && tokenizer_->is_special(id)) return {};
    std::string text = std::move(held_);
    text += tokenizer_->token_bytes(id);
    const size_t complete = text.size() - truncated_tail(text);
    held_ = text.substr(complete);
    text.resize(complete);
    if (drop_space_ && !text.empty()) {
        if (text[0] == ' ') text.erase(0, 1);
        drop_space_ = false;
    }
    return replace_broken_utf8(std::move(text));
}

std::string StreamDecoder::finish() {
    std::string text = std::move(held_);
    held_.clear();
    return replace_broken_utf8(std::move(text));
}

}  // namespace smelt
