// An answer in OpenAI's words: chat completions and completions, whole or as events.
#pragma once

#include "server/dialects/answer.h"

namespace smelt {

struct OpenAiWords {
    bool chat = true, include_usage = false;
    bool logprobs = false, echo = false;
    bool prompt_logprobs = false;  // vLLM's, which the answer has apart from its own
    bool older_calls = false;      // function_call in place of tool_calls
    // llama.cpp's
    bool progress = false, timings_per_token = false, verbose = false;
};

void start_openai_answer(const Call& call, std::vector<JobSpec> jobs, bool stream, OpenAiWords words);

}  // namespace smelt
