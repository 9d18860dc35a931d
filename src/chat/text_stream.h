// Turns the tokens of one answer into text for a person: whole characters only, thinking and calls apart from
// the answer, cut at stop strings even when they cross token borders. Knows no engine; pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "chat/answer_parser.h"
#include "text/tokenizer.h"

namespace smelt {

struct TextStreamOptions {
    std::vector<std::string> stop =
        {};                // the answer ends before the first of these; they do not end thinking or calls
    bool goes_on = false;  // in the prompt's own text, so that a SentencePiece vocabulary's first space stays
    AnswerParserOptions parser = {};
};

class TextStream {
 public:
    TextStream(const Tokenizer& tokenizer, TextStreamOptions options);

    TextDelta push(int32_t id);
    TextDelta finish();  // what was held back because it could have become a mark or a stop string

    // A stop string was met, or the format says that the answer is complete; further tokens are ignored.
    bool stopped() const { return stopped_; }
    const std::string& stop_string() const { return stop_string_; }  // the one that was met

 private:
    void stop(TextDelta& delta);

    const Tokenizer& tokenizer_;
    StreamDecoder decoder_;
    std::vector<std::string> stops_;
    std::unique_ptr<AnswerParser> parser_;
    std::string held_;  // could be the beginning of a stop string
    bool stopped_ = false;
    std::string stop_string_;
};

}  // namespace smelt
