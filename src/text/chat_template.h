// A model's chat template: Jinja as transformers runs it (trim_blocks, lstrip_blocks, loop controls),
// sandboxed: it sees only the values passed in, and steps, depth and output are budgeted.
#pragma once

#include <cstddef>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"

namespace smelt {

struct TemplateLimits {
    size_t max_source = size_t{1} << 20;   // bytes of the template itself
    size_t max_steps = 20'000'000;         // evaluated nodes, and work of the same order
    int max_depth = 200;                   // nesting of expressions, blocks and macro calls
    size_t max_output = size_t{64} << 20;  // bytes of output and of all values alive at once
};

struct RenderOptions {
    std::optional<std::tm> now;  // what strftime_now() shows; the local time where not given
};

// A template that cannot be parsed or rendered. what() is one line for the user.
class TemplateError : public Error {
 public:
    TemplateError(std::string type, std::string message, int line);
    // Python's name of the error: "TemplateError" for raise_exception(), "TemplateSyntaxError",
    // "UndefinedError", "TypeError", ...; "BudgetError" where a limit ran out.
    const std::string& type() const { return type_; }
    const std::string& message() const { return message_; }
    int line() const { return line_; }

 private:
    std::string type_, message_;
    int line_;
};

class ChatTemplate {
 public:
    // Throws TemplateError with line and what was expected where the source is no valid template.
    explicit ChatTemplate(std::string_view source, TemplateLimits limits = {});
    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;

    // `variables` is an object: messages, tools, add_generation_prompt, bos_token, eos_token,
    // enable_thinking, ... Throws TemplateError: what raise_exception() said, an undefined operation with
    // its line, or the budget that ran out.
    std::string render(const Json& variables, const RenderOptions& options = {}) const;

    const std::string& source() const;

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace smelt
