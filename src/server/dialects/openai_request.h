// Requests of OpenAI's kind, with what vLLM and llama.cpp add to them: chat completions, completions, and the
// plain /generate.
#pragma once

#include "chat/chat_request.h"
#include "server/dialects/schema.h"

namespace smelt {

// Of bodies that their schemas accepted. Throw RequestError naming the field.
ChatRequest read_chat_request(const Json& body);
ChatRequest read_question(const Json& body, int default_max_tokens);
// The conversation alone, for routes that do not answer it.
ChatRequest read_conversation(const Json& body);

struct CompletionRequest {
    ChatRequest request;  // without a prompt
    std::vector<PlainPrompt> prompts;
    bool several = false;  // prompts came as an array, and errors say which
};
CompletionRequest read_completion_request(const Json& body);

// Texts or token ids of a checked field: one, or several.
std::vector<PlainPrompt> read_prompts(const Json& v, bool& several);

// How tokens are drawn and when an answer ends, from fields that the dialects of OpenAI's kind share.
void read_sampling(const Json& body, ChatRequest& to);
void read_cache_salt(const Json& body, ChatRequest& to);
// What OpenAI's service_tier is for the queue.
int read_service_tier(const Json& body);
// Whether the model thinks: enable_thinking, at top level or among chat_template_kwargs.
void read_thinking(const Json& body, ChatRequest& to);
void set_effort(const std::string& effort, ChatRequest& to);
// Those of the table by the names that a dialect has for them; `spelling` may give "" for none.
void read_sampling_table(const Json& body, std::string_view (*spelling)(const SamplingParam&),
                         SamplingChanges& to);

}  // namespace smelt
