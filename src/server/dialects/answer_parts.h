// What answers are made of in every dialect: calls from their deltas, counts, events, errors.
#pragma once

#include "base/process_use.h"
#include "server/models/job.h"

namespace smelt {

struct Call;

// Of a token's log-probability, kept and in the answer's text.
inline constexpr size_t logprob_bytes = 150;

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

// Tokens and times of several answers together.
struct Usage {
    int n_prompt = 0, n_cached = 0, n_answer = 0;
    int n_thinking = 0;  // of the answers' tokens
    int n_drafted = 0, n_draft_accepted = 0;
    bool has_prediction = false;  // which the drafts were of
    double queued = 0, prefill = 0, decode = 0;
    double cpu_at_start = read_process_use().cpu_seconds;  // of the process

    void add(const AnswerEnd& end);
    Json usage_json() const;
    Json timings_json() const;
};

// llama.cpp's "prompt_progress".
Json progress_json(const PromptProgress& p);

// "data: {...}\n\n"
std::string sse(const Json& event);
HttpAnswer sse_head();

// OpenAI's, of a conversation.
void send_count(Call& call, size_t n_tokens);

std::string random_id(const char* prefix);

}  // namespace smelt
