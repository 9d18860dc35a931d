// Tokens to text, text through the format's parser, and of the answer the longest tail held back that could
// still become a stop string.
#include "chat/text_stream.h"

#include <algorithm>
#include <utility>

namespace smelt {

TextStream::TextStream(const Tokenizer& tokenizer, TextStreamOptions options)
    : tokenizer_(tokenizer),
      decoder_(tokenizer, true),
      stops_(std::move(options.stop)),
      parser_(make_answer_parser(options.parser)) {
    std::erase(stops_, "");
    if (options.goes_on) decoder_.keep_first_space();
}

TextDelta TextStream::push(int32_t id) {
    TextDelta delta;
    if (stopped_) return delta;
    const std::string_view bytes = tokenizer_.token_bytes(id);
    if (parser_->is_mark(bytes)) {
        parser_->text(decoder_.finish(), delta);
        parser_->mark(bytes, delta);
    } else {
        parser_->text(decoder_.push(id), delta);
    }
    stop(delta);
    if (!stopped_ && parser_->done()) {
        stopped_ = true;
        delta.answer += std::exchange(held_, {});
    }
    return delta;
}

TextDelta TextStream::finish() {
    TextDelta delta;
    if (stopped_) return delta;
    parser_->text(decoder_.finish(), delta);
    parser_->finish(delta);
    stop(delta);
    if (!stopped_) delta.answer += std::exchange(held_, {});
    return delta;
}

void TextStream::stop(TextDelta& delta) {
    if (stops_.empty()) return;
    held_ += std::exchange(delta.answer, {});
    size_t first = std::string::npos, keep = 0;
    for (const std::string& s : stops_) {
        const size_t at = held_.find(s);
        if (at < first) {
            first = at;
            stop_string_ = s;
        }
        keep = std::max(keep, overlap(held_, s));
    }
    stopped_ = first != std::string::npos;
    delta.answer = held_.substr(0, stopped_ ? first : held_.size() - keep);
    held_.erase(0, stopped_ ? std::string::npos : delta.answer.size());
}

}  // namespace smelt
