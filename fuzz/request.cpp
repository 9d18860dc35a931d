// Any bytes as the body of any request: JSON, the checks of its schema, and the dialect's reader. What passes
// the checks must hold what the reader reads without looking again.
#include <iterator>

#include "server/api_error.h"
#include "server/dialects/anthropic_request.h"
#include "server/dialects/ollama_request.h"
#include "server/dialects/openai_request.h"
#include "server/dialects/responses_request.h"

namespace smelt {

namespace {

struct Target {
    const RequestSchema& schema;
    void (*read)(const Json& body);
};

const Target targets[] = {
    {chat_schema, [](const Json& b) { (void)read_chat_request(b); }},
    {completion_schema, [](const Json& b) { (void)read_completion_request(b); }},
    {generate_schema, [](const Json& b) { (void)read_question(b, 100); }},
    {tokenize_schema,
     [](const Json& b) {
         if (b.contains("messages")) (void)read_conversation(b);
     }},
    {detokenize_schema, [](const Json& b) { (void)b.at("tokens").get<std::vector<int32_t>>(); }},
    {template_schema, [](const Json& b) { (void)read_conversation(b); }},
    {load_schema, [](const Json& b) { (void)b.at("path").get<std::string>(); }},
    {unload_schema, [](const Json& b) { (void)b.at("name").get<std::string>(); }},
    {messages_schema, [](const Json& b) { (void)read_anthropic_request(b); }},
    {count_tokens_schema, [](const Json& b) { (void)read_anthropic_conversation(b); }},
    {responses_schema, [](const Json& b) { (void)read_responses_request(b); }},
    {ollama_chat_schema, [](const Json& b) { (void)template_messages(read_ollama_chat(b).messages); }},
    {ollama_generate_schema, [](const Json& b) { (void)read_ollama_question(b); }},
};

}  // namespace

}  // namespace smelt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    if (size == 0) return 0;
    const Target& target = targets[data[0] % std::size(targets)];
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    try {
        const Json body = parse_json(text, "request body", {.max_values = 100'000});
        (void)check_body(body, target.schema, data[0] >= 128);
        target.read(body);
    } catch (const RequestError& e) {
        (void)to_string(error_body(e.error));
    } catch (const Error&) {
    }
    return 0;
}
