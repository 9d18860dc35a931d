// Takes an answer apart: what the model thinks, what it says, which functions it calls. One parser a chat
// format. Text that does not fit its format is answer: a model may write anything.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace smelt {

// Thinking marks of the models that have them.
inline constexpr std::string_view think_open = "<think>", think_close = "</think>";
// What opens the calls of Llama and of Mistral.
inline constexpr std::string_view python_tag = "<|python_tag|>", mistral_calls = "[TOOL_CALLS]";
// Around DeepSeek's calls, around each of them, and before its arguments.
inline constexpr std::string_view deepseek_calls = "<｜tool▁calls▁begin｜>",
                                  deepseek_calls_end = "<｜tool▁calls▁end｜>",
                                  deepseek_call = "<｜tool▁call▁begin｜>",
                                  deepseek_call_end = "<｜tool▁call▁end｜>", deepseek_sep = "<｜tool▁sep｜>";

struct ToolCallDelta {
    int index = 0;               // of the call in its answer
    std::string name = {};       // with the first delta of a call
    std::string arguments = {};  // JSON text; the deltas of a call make it together
};

struct TextDelta {
    std::string thinking = {};
    std::string answer = {};
    std::vector<ToolCallDelta> tool_calls = {};

    void append(TextDelta more);
    bool empty() const { return thinking.empty() && answer.empty() && tool_calls.empty(); }
};

class AnswerParser {
 public:
    virtual ~AnswerParser() = default;
    // Tokens that are no text but marks of the format, when they come as one token.
    virtual bool is_mark(std::string_view token) const = 0;
    virtual void mark(std::string_view token, TextDelta& out) = 0;
    // Whole characters, in pieces of any size.
    virtual void text(std::string_view text, TextDelta& out) = 0;
    virtual void finish(TextDelta& out) = 0;
    // The answer is complete, whatever the model goes on to write.
    virtual bool done() const { return false; }
};

enum class AnswerFormat {
    plain,    // all is answer
    marks,    // <think>, and <tool_call> with JSON (Hermes, Qwen), keys and values (GLM) or parameters
              // (Qwen3-Coder)
    harmony,  // gpt-oss: messages on channels
};

// How a model writes calls; its template shows it one.
enum class CallStyle {
    none,
    json,      // Hermes, Qwen: <tool_call> with {"name", "arguments"}
    glm,       // <tool_call> with a name, keys and values in marks
    coder,     // Qwen3-Coder: <tool_call> with <function=NAME>, <parameter=KEY>
    llama,     // the whole answer is {"name", "parameters"}, or several behind semicolons
    mistral,   // [TOOL_CALLS] and an array of {"name", "arguments"}, or NAME[ARGS]{...}
    deepseek,  // in marks of its own NAME, a separator and {...} (V3.1), or "function" before the name and
               // the arguments in a fence of JSON (V3, R1)
    harmony,   // gpt-oss: a message with a recipient
};
CallStyle call_style_of(std::string_view template_source, AnswerFormat format);

struct AnswerParserOptions {
    AnswerFormat format = AnswerFormat::marks;
    bool starts_thinking = false;  // the prompt already opened the thinking mark
    bool starts_final = false;     // harmony: the prompt already opened the final channel
    // The request's tools, whose calls are taken out of the answer; null: calls stay text.
    Json tools = {};
    CallStyle calls = CallStyle::json;
    // A grammar holds the calls to their form: arguments are told as they come, not when they are complete.
    bool calls_are_held = false;
    bool single_call = false;  // the answer ends behind its first call
};
std::unique_ptr<AnswerParser> make_answer_parser(AnswerParserOptions options);

// For the parsers.
std::unique_ptr<AnswerParser> make_marks_parser(AnswerParserOptions options);
std::unique_ptr<AnswerParser> make_harmony_parser(AnswerParserOptions options);

// Marks that stand in the text where they are no control tokens.
bool is_text_mark(std::string_view token);

inline constexpr std::string_view blank_chars = "\r\n \t";
// Length of the longest suffix of text that is a proper prefix of `word`.
size_t overlap(std::string_view text, std::string_view word);

}  // namespace smelt
