// Any bytes as the body of any request: JSON, then the checks of its schema. A body that passes must hold
// what the code behind the checks reads without looking again.
#include "server/api_error.h"
#include "server/dialects/schema.h"

#include <cstdlib>

namespace smelt {

static void read_checked(const Json& body) {
    for (const char* name :
         {"max_tokens", "max_completion_tokens", "top_k", "n", "min_tokens", "top_logprobs"}) {
        (void)get<int>(body, name);
    }
    for (const char* name : {"temperature", "top_p", "min_p", "presence_penalty"})
        (void)get<float>(body, name);
    (void)get<int64_t>(body, "seed");
    if (const auto stop = get<Json>(body, "stop"); stop && !stop->is_string()) {
        (void)stop->get<std::vector<std::string>>();
    }
    if (const auto bias = get<Json>(body, "logit_bias")) {
        for (const auto& [id, value] : bias->items()) {
            if (std::stol(id) > 999'999'999) std::abort();
            (void)value.get<float>();
        }
    }
    if (const auto messages = get<Json>(body, "messages")) {
        for (const Json& m : *messages) (void)m.at("role").get<std::string>();
    }
}

}  // namespace smelt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    static const RequestSchema* const schemas[] = {&chat_schema,     &completion_schema, &generate_schema,
                                                   &tokenize_schema, &detokenize_schema, &template_schema,
                                                   &load_schema,     &unload_schema};
    if (size == 0) return 0;
    const RequestSchema& schema = *schemas[data[0] % std::size(schemas)];
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    Json body;
    try {
        body = parse_json(text, "request body", {.max_values = 100'000});
        check_body(body, schema, data[0] >= 128);
    } catch (const RequestError& e) {
        (void)to_string(error_body(e.error));
        return 0;
    } catch (const Error&) {
        return 0;
    }
    if (&schema == &chat_schema || &schema == &completion_schema || &schema == &generate_schema)
        read_checked(body);
    return 0;
}
