// Requests of llama.cpp's own interface: /completion and /infill.
#pragma once

#include "server/dialects/openai_request.h"
#include "server/routes.h"

namespace smelt {

inline constexpr float never_drawn = -1e6f;  // the bias of a token that is

struct NativeRequest {
    ChatRequest request = {};  // without a prompt
    std::vector<PlainPrompt> prompts = {};
    bool several = false;
    bool stream = false;
    bool returns_tokens = false, returns_progress = false, timings_per_token = false;
    int n_probs = 0, n_predict = -1;
    int64_t id_slot = -1;
    std::vector<std::string> response_fields = {};  // "content", "generation_settings/n_predict"; empty: all
};

// Of bodies that their schemas accepted. The model's tokenizer is needed for prompts of texts and token ids
// mixed, and for biases of texts. Throw RequestError.
NativeRequest read_native_completion(const Json& body, const ChatModel& model);
NativeRequest read_native_infill(const Json& body, const ChatModel& model);

extern const RequestSchema native_completion_schema, native_infill_schema;

}  // namespace smelt
