// <think>...</think>, then the answer with <tool_call>...</tool_call> in it. The marks may be tokens or
// spelled out: the longest tail that could still become one is held back.
#include <algorithm>
#include <utility>

#include "chat/answer_parser.h"
#include "chat/tool_call_text.h"

namespace smelt {

namespace {

constexpr std::string_view call_open = "<tool_call>", call_close = "</tool_call>";

// Takes the calls out of the answer.
class CallSplitter {
 public:
    CallSplitter(Json tools, CallStyle style, bool held, bool single_call)
        : tools_(std::move(tools)),
          is_held_(held && style == CallStyle::json),
          open_(style == CallStyle::mistral ? mistral_calls : call_open),
          close_(style == CallStyle::mistral ? "" : call_close),
          at_start_(style == CallStyle::llama),
          single_call_(single_call) {}

    bool done() const { return single_call_ && n_calls_ > 0; }

    void text(std::string_view text, TextDelta& out) {
        held_ += text;
        if (at_start_ && !decide()) return;
        while (!done() && (is_held_ && inside_ ? held_step(out) : step(out))) {
        }
    }

    void finish(TextDelta& out) {
        if (done()) return;
        if (is_held_ && inside_) return;  // cut off: what there was of it has been told
        // Some models end their turn instead of closing the mark.
        if (inside_) return call(held_, "", out);
        out.answer += held_;
    }

 private:
    // Whether an answer of Llama's is a call shows at its beginning. False: not yet.
    bool decide() {
        const size_t start = held_.find_first_not_of(blank_chars);
        if (start == std::string::npos) return false;
        const std::string_view rest = std::string_view(held_).substr(start);
        if (rest.size() < python_tag.size() && python_tag.starts_with(rest)) return false;
        at_start_ = false;
        if (rest.starts_with('{') || rest.starts_with(python_tag)) {
            inside_ = true;
            open_ = close_ = "";
        }
        return true;
    }

    bool held_step(TextDelta& out) {
        if (!call_.complete()) {
            call_.text(held_);
            ToolCallDelta delta{n_calls_, call_.take_name(), call_.take_arguments()};
            if (!delta.name.empty() || !delta.arguments.empty()) out.tool_calls.push_back(std::move(delta));
            if (!call_.complete()) return false;
        }
        const size_t at = held_.find(call_close);
        if (at == std::string::npos) return false;
        held_.erase(0, at + call_close.size());
        call_ = {};
        ++n_calls_;
        inside_ = false;
        trim_ = true;
        return true;
    }

    bool step(TextDelta& out) {
        if (trim_) {
            held_.erase(0, std::min(held_.size(), held_.find_first_not_of(blank_chars)));
            if (held_.empty()) return false;
            trim_ = false;
        }
        const std::string_view mark = inside_ ? close_ : open_;
        if (mark.empty()) return false;  // to the end
        const size_t at = held_.find(mark, searched_);
        if (at == std::string::npos) {
            searched_ = held_.size() - overlap(held_, mark);
            if (inside_) return false;
            // Blank text around a call belongs to its marks.
            const std::string_view open = std::string_view(held_).substr(0, searched_);
            const size_t safe = open.find_last_not_of(blank_chars) + 1;
            out.answer += open.substr(0, safe);
            held_.erase(0, safe);
            searched_ -= safe;
            return false;
        }
        const std::string before = held_.substr(0, at);
        held_.erase(0, at + mark.size());
        searched_ = 0;
        if (inside_) {
            call(before, close_, out);
        } else {
            out.answer += std::string_view(before).substr(0, before.find_last_not_of(blank_chars) + 1);
        }
        inside_ = !inside_;
        return true;
    }

    void call(const std::string& text, std::string_view end, TextDelta& out) {
        auto calls = parse_tool_calls(text, tools_);
        // JSON that is no call may well be the answer.
        if (calls && open_.empty() &&
            !std::ranges::all_of(*calls, [&](const ToolCall& c) { return is_known(c.name); })) {
            calls.reset();
        }
        if (calls) {
            if (single_call_) calls->resize(1);
            for (ToolCall& c : *calls) {
                out.tool_calls.push_back({n_calls_++, std::move(c.name), std::move(c.arguments)});
            }
            trim_ = true;
        } else {
            out.answer.append(open_).append(text).append(end);
        }
    }

    bool is_known(const std::string& name) const {
        return std::ranges::any_of(tools_, [&](const Json& tool) {
            const auto function = tool.find("function");
            return function != tool.end() && function->is_object() && function->value("name", Json()) == name;
        });
    }

    Json tools_;
    bool is_held_;
    HeldCall call_;                  // that is being written
    std::string_view open_, close_;  // marks around a call; no close: to the end
    bool at_start_;                  // undecided whether all of the answer is a call
    bool single_call_;
    std::string held_;
    size_t searched_ = 0;  // no mark begins before it
    bool inside_ = false;
    bool trim_ = false;  // behind a call
    int n_calls_ = 0;
};

class MarksParser : public AnswerParser {
 public:
    explicit MarksParser(AnswerParserOptions o)
        : state_(o.starts_thinking ? State::thinking : State::before_thinking) {
        if (o.tools.is_array())
            calls_ =
                std::make_unique<CallSplitter>(std::move(o.tools), o.calls, o.calls_are_held, o.single_call);
    }

    // Some vocabularies call these control tokens, which are otherwise left out of the text.
    bool is_mark(std::string_view token) const override { return is_text_mark(token); }
    void mark(std::string_view token, TextDelta& out) override { text(token, out); }

    void text(std::string_view text, TextDelta& out) override {
        held_ += text;
        while (!held_.empty() && step(out)) {
        }
    }

    void finish(TextDelta& out) override {
        const std::string rest = std::exchange(held_, {});
        if (state_ == State::thinking) {
            think(rest, out);
        } else {
            answer(rest, out);
        }
        if (calls_ != nullptr) calls_->finish(out);
    }
    bool done() const override { return calls_ != nullptr && calls_->done(); }

 private:
    enum class State { before_thinking, thinking, answer };

    bool step(TextDelta& out) {
        if (state_ == State::before_thinking) {
            // Only the very first text of an answer can open the thinking.
            const size_t start = std::min(held_.size(), held_.find_first_not_of(blank_chars));
            const std::string_view rest = std::string_view(held_).substr(start);
            if (rest.starts_with(think_open)) {
                held_.erase(0, start + think_open.size());
                state_ = State::thinking;
                trim_ = true;
                return true;
            }
            if (think_open.starts_with(rest)) return false;  // undecided
            state_ = State::answer;
        }
        if (state_ == State::answer) {
            answer(std::exchange(held_, {}), out);
            return false;
        }
        const size_t at = held_.find(think_close);
        // Blank text before the closing mark belongs to the mark.
        const std::string_view open = std::string_view(held_).substr(
            0, at == std::string::npos ? held_.size() - overlap(held_, think_close) : at);
        const size_t safe = open.find_last_not_of(blank_chars) + 1;
        think(open.substr(0, safe), out);
        held_.erase(0, at == std::string::npos ? safe : at + think_close.size());
        if (at == std::string::npos) return false;
        state_ = State::answer;
        trim_ = true;
        return true;
    }

    // Blank text right behind a mark belongs to neither side.
    std::string_view without_blank(std::string_view text) {
        if (trim_) text.remove_prefix(std::min(text.size(), text.find_first_not_of(blank_chars)));
        if (!text.empty()) trim_ = false;
        return text;
    }
    void think(std::string_view text, TextDelta& out) { out.thinking += without_blank(text); }
    void answer(std::string_view text, TextDelta& out) {
        if (calls_ != nullptr) {
            calls_->text(without_blank(text), out);
        } else {
            out.answer += without_blank(text);
        }
    }

    State state_;
    bool trim_ = false;
    std::string held_;  // could be the beginning of a mark
    std::unique_ptr<CallSplitter> calls_;
};

}  // namespace

std::unique_ptr<AnswerParser> make_marks_parser(AnswerParserOptions options) {
    return std::make_unique<MarksParser>(std::move(options));
}

}  // namespace smelt
