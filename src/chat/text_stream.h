// Turns the tokens of one answer into text for a person: whole characters only, thinking apart from the
// answer, cut at stop strings even when they cross token borders. Knows no engine; pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace smelt {

struct TextDelta {
    std::string thinking;  // text between the thinking marks
    std::string answer;    // all other text
};

struct TextStreamOptions {
    std::vector<std::string> stop =
        {};                        // the answer ends before the first of these; they do not end thinking
    bool split_thinking = true;    // false: marks and all are answer
    bool starts_thinking = false;  // the prompt already opened the thinking mark
};

// Thinking marks of the models that have them.
inline constexpr std::string_view think_open = "<think>", think_close = "</think>";

class TextStream {
 public:
    TextStream(const Tokenizer& tokenizer, TextStreamOptions options);

    TextDelta push(int32_t id);
    TextDelta finish();  // what was held back because it could have become a mark or a stop string

    bool stopped() const { return stopped_; }  // a stop string was met; further tokens are ignored
    const std::string& stop_string() const { return stop_string_; }

 private:
    TextDelta take(std::string text);
    void route(std::string_view text, TextDelta& out);

    enum class State { before_thinking, thinking, answer };

    const Tokenizer& tokenizer_;
    StreamDecoder decoder_;
    TextStreamOptions options_;
    State state_;
    bool trim_ = false;  // blank text right after a mark belongs to neither side
    std::string held_;   // could be the beginning of a mark or of a stop string
    bool stopped_ = false;
    std::string stop_string_;
};

}  // namespace smelt
