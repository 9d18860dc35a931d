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
        "s": "Hello, World", "u": "Grüße 你好 🙂", "e": "", "ws": " \t pad \n", "n": 7, "neg": -7,
        "f": 2.5, "t": true, "nil": null, "xs": [3, 1, 2],
        "names": ["bob", "Alice", "carol", "alice"], "empty": [], "nested": [[1, [2, 3]], [4]],
        "d": {"b": 1, "a": [1, 2], "c": {"k": "v"}, "items": "shadow"}, "big": 9223372036854775813,
        "msgs": [{"role": "system", "content": "S"}, {"role": "user", "content": "U1"},
        {"role": "assistant", "content": "A1", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
        {"role": "user", "content": "U2"}],
        "people": [{"name": "Ann", "age": 30, "city": {"name": "Oslo"}},
        {"name": "bob", "age": 25, "city": {"name": "Rome"}},
        {"name": "Cy", "age": 30, "city": {"name": "oslo"}}, {"name": "Dee", "age": null}],
        "html": "<b class=\"x\">it's & more</b>", "text": "one two  three\nfour\r\nfive\n\nsix",
        "mixed": [1, "a", null, true, 2.5, [], {}]})",
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
