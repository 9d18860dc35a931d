#include "chat/answer_parser.h"

#include <algorithm>
#include <iterator>

namespace smelt {

namespace {

class PlainParser : public AnswerParser {
 public:
    bool is_mark(std::string_view token) const override { return is_text_mark(token); }
    void mark(std::string_view token, TextDelta& out) override { out.answer += token; }
    void text(std::string_view text, TextDelta& out) override { out.answer += text; }
    void finish(TextDelta&) override {}
};

}  // namespace

void TextDelta::append(TextDelta more) {
    thinking += more.thinking;
    answer += more.answer;
    std::ranges::move(more.tool_calls, std::back_inserter(tool_calls));
}

std::unique_ptr<AnswerParser> make_answer_parser(AnswerParserOptions options) {
    switch (options.format) {
        case AnswerFormat::plain:
            break;
        case AnswerFormat::marks:
            return make_marks_parser(std::move(options));
        case AnswerFormat::harmony:
            return make_harmony_parser(std::move(options));
    }
    return std::make_unique<PlainParser>();
}

CallStyle call_style_of(std::string_view source, AnswerFormat format) {
    if (format == AnswerFormat::harmony) return CallStyle::harmony;
    const auto has = [&](std::string_view mark) { return source.find(mark) != std::string_view::npos; };
    if (has(mistral_calls)) return CallStyle::mistral;
    if (has(deepseek_calls)) return CallStyle::deepseek;
    if (has("<tool_call>")) {
        if (has("<arg_key>")) return CallStyle::glm;
        return has("<function=") ? CallStyle::coder : CallStyle::json;
    }
    return has(python_tag) ? CallStyle::llama : CallStyle::none;
}

bool is_text_mark(std::string_view token) {
    constexpr std::string_view marks[] = {
        think_open,     think_close,        "<tool_call>", "</tool_call>",    "<arg_key>", "</arg_key>",
        "<arg_value>",  "</arg_value>",     python_tag,    mistral_calls,     "[ARGS]",    "[CALL_ID]",
        deepseek_calls, deepseek_calls_end, deepseek_call, deepseek_call_end, deepseek_sep};
    return std::ranges::find(marks, token) != std::end(marks);
}

size_t overlap(std::string_view text, std::string_view word) {
    for (size_t n = std::min(text.size(), word.size() - 1); n > 0; --n) {
        if (text.ends_with(word.substr(0, n))) return n;
    }
    return 0;
}

}  // namespace smelt
