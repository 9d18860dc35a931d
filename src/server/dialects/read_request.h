// What the dialects share: from a checked body to what the engine is asked for.
#pragma once

#include "server/dialects/constraints.h"
#include "server/models/job.h"

namespace smelt {

ModelChoice read_choice(const Json& body, const std::string& key, int max_tokens);
// Everything but logprobs, on top of the model's own sampling.
GenerateOptions read_options(const Json& body, const ChatModel& model);
// What makes salts unpredictable: drawn by each process, unless it is kept with cached prefixes on disk.
// Before the first request. Throws Error.
void keep_salt_secret(const std::filesystem::path& file);
// Who shares cached prefixes with this request: those of the same API key and the same cache_salt.
uint64_t read_cache_salt(const Json& body, const std::string& key);
// max_tokens of any dialect's names; -1: none was given.
int read_max_tokens(const Json& body);

// The template's part of a body: messages and chat_template_kwargs. Throws RequestError template_error.
Prompt make_chat_prompt(const ChatModel& model, const Json& messages, const Json& body,
                        bool add_generation_prompt = true);
struct ServerContext;
// A conversation in OpenAI's words, checked: what every chat dialect becomes. Throws RequestError.
JobSpec make_chat_job(ServerContext& server, const Json& body, const std::string& key,
                      const SchemaNames& names = {});

// One question: prompt, system, raw. max_tokens -1: until the context is full.
JobSpec make_question_job(ServerContext& server, const Json& body, const std::string& key,
                          int default_max_tokens = -1);

// Text, or checked token ids, as they are.
Prompt make_plain_prompt(const ChatModel& model, const Json& prompt, const std::string& param);

// Throws RequestError context_length_exceeded with both numbers.
void check_fits(const ChatModel& model, const Prompt& prompt, const std::string& param);

// What a client is told about an answer that ended with an error.
ApiError failure_error(const FinishEvent& finish);

// The calls of an answer, from their deltas.
struct ToolCallText {
    std::string id = {}, name = {}, arguments = {};
    Json object() const;  // the arguments; where a model was cut off in them, or wrote none, empty
};
class ToolCallTexts {
 public:
    ToolCallText& add(const ToolCallDelta& delta);  // returns the call that it belongs to
    const std::vector<ToolCallText>& all() const { return calls_; }

 private:
    std::vector<ToolCallText> calls_;
};

// Prompt tokens and answer tokens of several answers together.
struct Usage {
    int n_prompt = 0, n_cached = 0, n_answer = 0;
    double queued = 0, prefill = 0, decode = 0;

    void add(const FinishEvent& finish);
    Json usage_json() const;
    Json timings_json() const;
};

// "data: {...}\n\n"
std::string sse(const Json& event);
HttpAnswer sse_head();

std::string random_id(const char* prefix);

}  // namespace smelt
