// Any bytes as a chat template, rendered over one conversation: text or a TemplateError within the budget.
#include "text/chat_template.h"

#include <cstdint>

namespace {

const smelt::Json& conversation() {
    static const smelt::Json value = smelt::parse_json(R"({
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Grüße & <b>\"x\"</b>\n"},
            {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes", "reasoning_content": null,
             "tool_calls": [{"id": "123456789", "type": "function",
                             "function": {"name": "f", "arguments": {"city": "Zürich", "n": [1, 2.5, -3]}}}]},
            {"role": "tool", "content": "{\"t\": 21}", "tool_call_id": "123456789", "name": "f"},
            {"role": "user", "content": [{"type": "text", "text": "more"}]}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {
            "type": "object", "properties": {"city": {"type": ["string", "null"], "enum": ["a", "b"]}},
            "required": ["city"]}}}],
        "add_generation_prompt": true, "enable_thinking": true, "bos_token": "<s>", "eos_token": "</s>",
        "n": 18446744073709551615, "f": 1e300, "u": "你好 🙂", "xs": [3, 1, 2], "d": {"b": 1, "a": {"c": []}}})",
                                                       "fuzz");
    return value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const smelt::TemplateLimits limits = {.max_steps = 20'000, .max_depth = 200, .max_output = 1 << 20};
    const smelt::RenderOptions options = {std::tm{}};
    try {
        const smelt::ChatTemplate chat_template({reinterpret_cast<const char*>(data), size}, limits);
        (void)chat_template.render(conversation(), options);
    } catch (const smelt::TemplateError&) {
    }
    return 0;
}
