// gpt-oss's format: <|start|>ROLE to=RECIPIENT<|channel|>CHANNEL<|constrain|>TYPE<|message|>TEXT<|end|>,
// where the prompt has written <|start|>assistant. The marks are tokens of their own; the same characters as
// text mean nothing. Channel analysis is thinking; a recipient makes it a call; all other text is answer.
#include <algorithm>
#include <utility>

#include "chat/answer_parser.h"

namespace smelt {

namespace {

constexpr std::string_view start = "<|start|>", channel = "<|channel|>", constrain = "<|constrain|>",
                           message = "<|message|>";
constexpr std::string_view ends[] = {"<|end|>", "<|return|>", "<|call|>"};
constexpr size_t longest_header = 512;  // bytes; real ones have 60

bool is_end(std::string_view token) {
    return std::ranges::find(ends, token) != std::end(ends);
}

class HarmonyParser : public AnswerParser {
 public:
    explicit HarmonyParser(const AnswerParserOptions& o)
        : wants_calls_(o.tools.is_array()), state_(o.starts_final ? State::answer : State::header) {}

    bool is_mark(std::string_view token) const override {
        return token == start || token == channel || token == constrain || token == message || is_end(token);
    }

    void mark(std::string_view token, TextDelta& out) override {
        if (token == message) {
            if (state_ == State::header) open_message(out);
        } else if (token == constrain) {
            header_ += ' ';
        } else if (token == channel) {
            // In the middle of a text: a message whose predecessor was not closed.
            if (state_ != State::header) begin_header();
            in_channel_ = true;
            channel_.clear();
            header_ += ' ';
        } else {
            begin_header();
            after_start_ = token == start;
        }
    }

    void text(std::string_view text, TextDelta& out) override {
        if (state_ != State::header) return emit(text, out);
        header_ += text;
        if (in_channel_) channel_ += text;
        if (!could_be_header()) release_header(out);
    }

    void finish(TextDelta& out) override {
        // A header without its message says nothing, unless it is text in the wrong place.
        if (state_ != State::header || !recipient().empty()) return;
        if (in_channel_ || !after_start_) release_header(out);
    }

 private:
    enum class State { header, thinking, call, answer };

    void begin_header() {
        state_ = State::header;
        header_.clear();
        channel_.clear();
        in_channel_ = after_start_ = false;
    }

    // "to=functions.NAME" anywhere in the header.
    std::string recipient() const {
        const size_t at = header_.find("to=");
        if (at == std::string::npos || (at > 0 && header_[at - 1] != ' ')) return {};
        const std::string name = header_.substr(at + 3, header_.find_first_of(blank_chars, at) - at - 3);
        constexpr std::string_view space = "functions.";
        return name.starts_with(space) ? name.substr(space.size()) : name;
    }

    bool could_be_header() const {
        if (header_.size() > longest_header) return false;
        if (in_channel_) return could_be_channel();
        // (a role,) blank, a recipient, blank
        std::string_view rest = header_;
        if (after_start_) rest.remove_prefix(std::min(rest.size(), rest.find_first_of(blank_chars)));
        rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of(blank_chars)));
        constexpr std::string_view to = "to=";
        if (rest.size() < to.size()) return to.starts_with(rest);
        if (!rest.starts_with(to)) return false;
        const size_t end = rest.find_first_of(blank_chars);
        return end == std::string_view::npos ||
               rest.find_first_not_of(blank_chars, end) == std::string_view::npos;
    }

    // A channel's name, a recipient and a type, in one line.
    bool could_be_channel() const {
        int n_words = 0;
        for (size_t i = 0; (i = channel_.find_first_not_of(' ', i)) != std::string::npos;) {
            const size_t end = channel_.find(' ', i);
            const std::string_view word = std::string_view(channel_).substr(i, end - i);
            const bool is_recipient = word.starts_with("to=") ||
                                      (end == std::string::npos && std::string_view("to=").starts_with(word));
            if (!is_recipient) ++n_words;
            i = end;
        }
        return n_words <= 2 && channel_.find('\n') == std::string::npos;
    }

    void release_header(TextDelta& out) {
        std::string_view text = in_channel_ ? channel_ : header_;
        for (const std::string_view name : {"analysis", "commentary", "final"}) {
            if (in_channel_ && text.starts_with(name)) text.remove_prefix(name.size());
        }
        open(State::answer);
        trim_ = true;
        emit(text, out);
    }

    void open_message(TextDelta& out) {
        std::string name = recipient();
        const size_t first = std::min(channel_.size(), channel_.find_first_not_of(blank_chars));
        const std::string_view on = std::string_view(channel_).substr(first);
        if (!name.empty() && name != "assistant" && wants_calls_) {
            open(State::call);
            out.tool_calls.push_back({.index = ++n_calls_ - 1, .name = std::move(name)});
        } else {
            open(on.starts_with("analysis") ? State::thinking : State::answer);
        }
    }

    // Two messages on one side are two paragraphs.
    void open(State state) {
        state_ = state;
        trim_ = false;
        apart_ = state == State::thinking ? thought_ : state == State::answer && answered_;
    }

    void emit(std::string_view text, TextDelta& out) {
        if (trim_) text.remove_prefix(std::min(text.size(), text.find_first_not_of(blank_chars)));
        if (text.empty()) return;
        trim_ = false;
        if (state_ == State::call) {
            out.tool_calls.push_back({.index = n_calls_ - 1, .arguments = std::string(text)});
            return;
        }
        std::string& side = state_ == State::thinking ? out.thinking : out.answer;
        if (std::exchange(apart_, false)) side += "\n\n";
        side += text;
        (state_ == State::thinking ? thought_ : answered_) = true;
    }

    bool wants_calls_;
    State state_;
    std::string header_;   // its text so far
    std::string channel_;  // of it, that behind <|channel|>
    bool in_channel_ = false, after_start_ = false;
    bool thought_ = false, answered_ = false;  // something was said on that side
    bool apart_ = false;                       // from what was said before
    bool trim_ = false;                        // blank text in front of what was no header
    int n_calls_ = 0;
};

}  // namespace

std::unique_ptr<AnswerParser> make_harmony_parser(AnswerParserOptions options) {
    return std::make_unique<HarmonyParser>(options);
}

}  // namespace smelt
