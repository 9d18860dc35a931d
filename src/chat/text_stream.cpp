// Hold back the longest tail that could still become a mark or a stop string; pass on the rest.
#include "chat/text_stream.h"

#include <algorithm>
#include <utility>

namespace smelt {

namespace {

constexpr std::string_view blank = "\r\n \t";

// Length of the longest suffix of text that is a proper prefix of `word`.
size_t overlap(std::string_view text, std::string_view word) {
    for (size_t n = std::min(text.size(), word.size() - 1); n > 0; --n) {
        if (text.ends_with(word.substr(0, n))) return n;
    }
    return 0;
}

}  // namespace

TextStream::TextStream(const Tokenizer& tokenizer, TextStreamOptions options)
    : tokenizer_(tokenizer), decoder_(tokenizer, true), options_(std::move(options)) {
    std::erase(options_.stop, "");
    state_ = !options_.split_thinking   ? State::answer
             : options_.starts_thinking ? State::thinking
                                        : State::before_thinking;
}

TextDelta TextStream::push(int32_t id) {
    if (stopped_) return {};
    // Some vocabularies call the marks control tokens, which the decoder leaves out.
    const std::string_view bytes = tokenizer_.token_bytes(id);
    if (tokenizer_.is_special(id) && (bytes == think_open || bytes == think_close)) {
        return take(decoder_.finish() + std::string(bytes));
    }
    return take(decoder_.push(id));
}

TextDelta TextStream::finish() {
    if (stopped_) return {};
    TextDelta out = take(decoder_.finish());
    if (!stopped_) route(std::exchange(held_, {}), out);
    return out;
}

// Text of the current state goes out on its side.
void TextStream::route(std::string_view text, TextDelta& out) {
    if (trim_) {
        text.remove_prefix(std::min(text.size(), text.find_first_not_of(blank)));
        if (!text.empty()) trim_ = false;
    }
    (state_ == State::thinking ? out.thinking : out.answer) += text;
}

TextDelta TextStream::take(std::string text) {
    TextDelta out;
    held_ += text;
    while (!held_.empty()) {
        if (state_ == State::before_thinking) {
            // Only the very first text of an answer can open the thinking.
            const size_t start = std::min(held_.size(), held_.find_first_not_of(blank));
            const std::string_view rest = std::string_view(held_).substr(start);
            if (rest.starts_with(think_open)) {
                held_.erase(0, start + think_open.size());
                state_ = State::thinking;
                trim_ = true;
                continue;
            }
            if (think_open.starts_with(rest)) return out;  // undecided
            state_ = State::answer;
        }
        if (state_ == State::thinking) {
            const size_t at = held_.find(think_close);
            if (at == std::string::npos) {
                // Blank text before the closing mark belongs to the mark.
                const std::string_view open =
                    std::string_view(held_).substr(0, held_.size() - overlap(held_, think_close));
                const size_t safe = open.find_last_not_of(blank) + 1;
                route(std::string_view(held_).substr(0, safe), out);
                held_.erase(0, safe);
                return out;
            }
            const std::string_view before = std::string_view(held_).substr(0, at);
            route(before.substr(0, before.find_last_not_of(blank) + 1), out);
            held_.erase(0, at + think_close.size());
            state_ = State::answer;
            trim_ = true;
            continue;
        }
        size_t first = std::string::npos, keep = 0;
        for (const std::string& stop : options_.stop) {
            const size_t at = held_.find(stop);
            if (at < first) {
                first = at;
                stop_string_ = stop;
            }
            keep = std::max(keep, overlap(held_, stop));
        }
        if (first != std::string::npos) {
            route(std::string_view(held_).substr(0, first), out);
            held_.clear();
            stopped_ = true;
            return out;
        }
        const size_t safe = held_.size() - keep;
        route(std::string_view(held_).substr(0, safe), out);
        held_.erase(0, safe);
        return out;
    }
    return out;
}

}  // namespace smelt
