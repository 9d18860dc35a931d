// qwen3.c's prompt files -> Jinja. Each file is one rendered turn, so the parts of a conversation are found
// by comparing them: what opens and closes a message, what opens the answer, what switches thinking off.
#include <fmt/format.h>

#include "base/error.h"
#include "files/qwen3c/qwen3c.h"

namespace smelt {

namespace {

constexpr std::string_view text_hole = "%s";

// Text around the holes; n holes give n + 1 pieces.
std::vector<std::string> split(const std::string& text, size_t n_holes, const std::string& source) {
    std::vector<std::string> pieces;
    size_t from = 0;
    for (size_t at = text.find(text_hole); at != std::string::npos; at = text.find(text_hole, from)) {
        pieces.push_back(text.substr(from, at - from));
        from = at + text_hole.size();
    }
    pieces.push_back(text.substr(from));
    if (pieces.size() != n_holes + 1) {
        throw Error("{}: expected {} times %s, found {}", source, n_holes, pieces.size() - 1);
    }
    return pieces;
}

std::string jinja_literal(std::string_view text) {
    std::string out = "'";
    for (const char c : text) {
        if (c == '\n') {
            out += "\\n";
        } else if (c == '\r') {
            out += "\\r";
        } else {
            if (c == '\'' || c == '\\') out += '\\';
            out += c;
        }
    }
    return out + "'";
}

}  // namespace

std::string qwen3c_chat_template(const Qwen3cPrompts& prompts, const std::string& source) {
    const auto thinking = split(prompts.thinking, 1, source + std::string(qwen3c_prompt_suffixes[1]));
    const auto plain = split(prompts.plain, 1, source + std::string(qwen3c_prompt_suffixes[0]));
    const auto system = split(prompts.system_thinking, 2, source + std::string(qwen3c_prompt_suffixes[3]));

    const std::string user_open = thinking[0];
    // "<|im_end|>\n<|im_start|>user\n" between the system and the user message: without the user's opening it
    // closes a message.
    const std::string close = system[1].ends_with(user_open)
                                  ? system[1].substr(0, system[1].size() - user_open.size())
                                  : std::string();
    const std::string answer_open =
        thinking[1].starts_with(close) ? thinking[1].substr(close.size()) : thinking[1];
    const std::string user_close = thinking[1].starts_with(close) ? close : std::string();
    const std::string no_thinking =
        plain[1].starts_with(thinking[1]) ? plain[1].substr(thinking[1].size()) : "";

    return fmt::format(
        "{{%- for message in messages %}}\n"
        "{{%- if message.role == 'system' %}}{{{{- {} + message.content + {} }}}}\n"
        "{{%- elif message.role == 'assistant' %}}{{{{- {} + "
        "message.content.split('</think>')[-1].lstrip('\\n') + {} "
        "}}}}\n"
        "{{%- else %}}{{{{- {} + message.content + {} }}}}\n"
        "{{%- endif %}}\n"
        "{{%- endfor %}}\n"
        "{{%- if add_generation_prompt %}}{{{{- {} }}}}\n"
        "{{%- if enable_thinking is defined and enable_thinking is false %}}{{{{- {} }}}}{{%- endif %}}\n"
        "{{%- endif %}}\n",
        jinja_literal(system[0]), jinja_literal(close), jinja_literal(answer_open), jinja_literal(close),
        jinja_literal(user_open), jinja_literal(user_close), jinja_literal(answer_open),
        jinja_literal(no_thinking));
}

}  // namespace smelt
