// A model's chat template: Jinja as transformers runs it (trim_blocks, lstrip_blocks, loop controls),
// sandboxed: it sees only the values passed in, and steps, depth and output are budgeted.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "base/json.h"

namespace smelt {

struct TemplateLimits {
    size_t max_steps = 20'000'000;         // evaluated nodes
    int max_depth = 200;                   // nesting of expressions, blocks and macro calls
    size_t max_output = size_t{64} << 20;  // bytes, also of intermediate strings and lists (items)
};

class ChatTemplate {
 public:
    // Throws Error with line and what was expected where the source is no valid template.
    explicit ChatTemplate(std::string_view source, TemplateLimits limits = {});
    ~ChatTemplate();
    ChatTemplate(ChatTemplate&&) noexcept;

    // `variables` is an object: messages, tools, add_generation_prompt, bos_token, eos_token,
    // enable_thinking, ... Throws Error: what raise_exception() said, an undefined operation with its line,
    // or the budget that ran out.
    std::string render(const Json& variables) const;

    const std::string& source() const;

 private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace smelt
