// <think>...</think>, then the answer with <tool_call>...</tool_call> in it. The marks may be tokens or
// spelled out: the longest tail that could still become one is held back.
#include <algorithm>
#include <utility>

#include "chat/answer_parser.h"
#include "chat/argument_types.h"
#include "chat/tool_call_text.h"

namespace smelt {

namespace {

constexpr std::string_view hermes_open = "<tool_call>", hermes_close = "</tool_call>";

constexpr std::string_view function_open = "<function=", function_close = "</function>";

// Takes the calls out of the answer.
class CallSplitter {
 public:
    CallSplitter(Json tools, CallStyle style, bool held, bool single_call)
        : tools_(std::move(tools)),
          style_(style),
          is_held_(held && style == CallStyle::json),
          open_(style == CallStyle::mistral    ? mistral_calls
                : style == CallStyle::deepseek ? deepseek_calls
                                               : hermes_open),
          close_(closing(style)),
          at_start_(style == CallStyle::llama || (style == CallStyle::json && !held)),
          single_call_(single_call) {}

    bool done() const { return single_call_ && n_calls_ > 0; }

    static std::string_view closing(CallStyle style) {
        if (style == CallStyle::mistral) return "";
        return style == CallStyle::deepseek ? deepseek_calls_end : hermes_close;
    }

    void text(std::string_view text, TextDelta& out) {
        held_ += text;
        run(out);
    }

    // Nothing more comes: what was to be decided later is decided now.
    void finish(TextDelta& out) {
        at_start_ = false;
        last_ = true;
        run(out);
        while (!done() && where_ != Where::text) {
            if (is_held_ && where_ == Where::marks) return;  // cut off: what there was of it has been told
            const auto end = close_.empty() ? std::nullopt : CallEnd::first(held_, close_);
            // Some models end their turn instead of closing the mark.
            if (!end) return call(std::exchange(held_, {}), "", false, out);
            take_call(*end, out);
            run(out);
        }
        if (!done()) out.answer += std::exchange(held_, {});
    }

 private:
    enum class Where {
        text,
        marks,  // within the marks of a call
        bare,   // within <function=...>, which nothing opened
        whole,  // the answer is a call up to its end
    };

    void run(TextDelta& out) {
        if (at_start_ && !decide()) return;
        while (!done() && step(out)) {
        }
    }

    bool step(TextDelta& out) {
        switch (where_) {
            case Where::text:
                return text_step(out);
            case Where::marks:
                if (is_held_) return held_step(out);
                [[fallthrough]];
            case Where::bare:
                if (close_.empty()) return false;
                if (const auto end = end_.find(held_, close_)) return take_call(*end, out), true;
                return false;
            case Where::whole:
                break;
        }
        return false;
    }

    // Whether the answer is a call and nothing else shows at its beginning. False: not yet.
    bool decide() {
        const size_t start = held_.find_first_not_of(blank_chars);
        if (start == std::string::npos) return false;
        const std::string_view rest = std::string_view(held_).substr(start);
        if (style_ == CallStyle::json) {
            const auto begun = begins_call(rest);
            if (!begun) return false;
            at_start_ = false;
            if (*begun) begin_whole();
            return true;
        }
        if (rest.size() < python_tag.size() && python_tag.starts_with(rest)) return false;
        at_start_ = false;
        if (rest.starts_with('{') || rest.starts_with(python_tag)) begin_whole();
        return true;
    }

    // {"name": "NAME", "arguments" of a function that there is: a call whose marks were forgotten. None: what
    // there is could become one.
    std::optional<bool> begins_call(std::string_view text) const {
        const auto blank = [&] {
            text.remove_prefix(std::min(text.size(), text.find_first_not_of(blank_chars)));
        };
        const auto take = [&](std::string_view word) -> std::optional<bool> {
            blank();
            if (text.starts_with(word)) return text.remove_prefix(word.size()), true;
            if (word.starts_with(text)) return std::nullopt;
            return false;
        };
        for (const std::string_view word : {"{", "\"name\"", ":", "\""}) {
            if (const auto taken = take(word); taken != true) return taken;
        }
        const size_t end = text.find('"');
        if (end == std::string_view::npos && text.size() < longest_name) return std::nullopt;
        if (end == std::string_view::npos || !is_tool(tools_, text.substr(0, end))) return false;
        text.remove_prefix(end + 1);
        for (const std::string_view word : {",", "\"arguments\""}) {
            if (const auto taken = take(word); taken != true) return taken;
        }
        return true;
    }

    void begin_whole() {
        where_ = Where::whole;
        open_ = close_ = "";
    }

    bool held_step(TextDelta& out) {
        if (!call_.complete()) {
            call_.text(held_);
            ToolCallDelta delta{n_calls_, call_.take_name(), call_.take_arguments()};
            if (!delta.name.empty() || !delta.arguments.empty()) out.tool_calls.push_back(std::move(delta));
            if (!call_.complete()) return false;
        }
        const size_t at = held_.find(hermes_close);
        if (at == std::string::npos) return false;
        held_.erase(0, at + hermes_close.size());
        call_ = {};
        ++n_calls_;
        where_ = Where::text;
        trim_ = true;
        return true;
    }

    bool text_step(TextDelta& out) {
        if (trim_) {
            held_.erase(0, std::min(held_.size(), held_.find_first_not_of(blank_chars)));
            if (held_.empty()) return false;
            // Behind a call without an opening mark its closing one may come all the same.
            if (was_bare_ && held_.starts_with(hermes_close)) {
                held_.erase(0, hermes_close.size());
                was_bare_ = false;
                return true;
            }
            if (was_bare_ && !last_ && hermes_close.starts_with(held_)) return false;
            trim_ = was_bare_ = false;
        }
        const size_t mark = held_.find(open_, searched_);
        const size_t bare =
            style_ == CallStyle::coder ? held_.find(function_open, searched_) : std::string::npos;
        if (bare < mark) return bare_step(bare, out);
        if (mark == std::string::npos) {
            searched_ = held_.size() - overlap(held_, open_);
            if (style_ == CallStyle::coder)
                searched_ = std::min(searched_, held_.size() - overlap(held_, function_open));
            // Blank text around a call belongs to its marks.
            say(held_.find_last_not_of(blank_chars, searched_ - 1) + 1, searched_, out);
            return false;
        }
        enter(Where::marks, mark, mark + open_.size(), out);
        return true;
    }

    // At <function=, with no mark before it.
    bool bare_step(size_t at, TextDelta& out) {
        const size_t name = at + function_open.size();
        const size_t end = held_.find_first_of("> \r\n\t<", name);
        const bool open = end == std::string::npos && held_.size() < name + longest_name;
        if (open && !last_) {
            say(held_.find_last_not_of(blank_chars, at == 0 ? 0 : at - 1) + 1, at, out);
            return false;
        }
        if (end == std::string::npos || held_[end] != '>' ||
            !is_tool(tools_, std::string_view(held_).substr(name, end - name))) {
            searched_ = name;
            return true;
        }
        enter(Where::bare, at, at, out);
        return true;
    }

    // Text up to `safe`, which is at most `before`, is certain.
    void say(size_t safe, size_t before, TextDelta& out) {
        safe = std::min(safe, before);
        out.answer += std::string_view(held_).substr(0, safe);
        held_.erase(0, safe);
        searched_ = before - safe;
    }

    void enter(Where where, size_t text_end, size_t call_begin, TextDelta& out) {
        const std::string_view before = std::string_view(held_).substr(0, text_end);
        out.answer += before.substr(0, before.find_last_not_of(blank_chars) + 1);
        held_.erase(0, call_begin);
        where_ = where;
        searched_ = 0;
        end_ = {};
        close_ = where == Where::bare ? function_close : closing(style_);
    }

    // The call's text ends before a closing mark at `end`.
    void take_call(size_t end, TextDelta& out) {
        const bool bare = where_ == Where::bare;
        const size_t text_end = end + (bare ? function_close.size() : 0);
        const std::string text = held_.substr(0, text_end);
        held_.erase(0, end + close_.size());
        end_ = {};
        call(text, bare ? "" : close_, true, out);
        where_ = Where::text;
    }

    // `end`: the mark behind it; `closed`: its end was met.
    void call(const std::string& text, std::string_view end, bool closed, TextDelta& out) {
        const bool whole = where_ == Where::whole;
        const bool no_mark = where_ != Where::marks;
        auto found = parse_tool_calls(text, tools_, closed);
        // JSON that is no call may well be the answer.
        const auto is_known = [&](const ToolCall& c) { return is_tool(tools_, c.name); };
        if (found && no_mark && !std::ranges::all_of(found->calls, is_known)) found.reset();
        was_bare_ = found && where_ == Where::bare;
        if (!found) {
            out.answer.append(no_mark ? "" : open_).append(text).append(end);
            return;
        }
        if (single_call_) found->calls.resize(1);
        for (ToolCall& c : found->calls) {
            out.tool_calls.push_back({n_calls_++, std::move(c.name), std::move(c.arguments)});
        }
        if (!single_call_ && !(whole && found->rest == hermes_close)) out.answer += found->rest;
        trim_ = true;
    }

    static constexpr size_t longest_name = 256;

    Json tools_;
    CallStyle style_;
    bool is_held_;
    HeldCall call_;                  // that is being written
    std::string_view open_, close_;  // marks around a call; no close: to the end
    bool at_start_;                  // undecided whether all of the answer is a call
    bool single_call_;
    std::string held_;
    size_t searched_ = 0;  // no mark begins before it
    Where where_ = Where::text;
    CallEnd end_;
    bool last_ = false;      // nothing more comes
    bool was_bare_ = false;  // the last call had no marks
    bool trim_ = false;      // behind a call
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
