// An answer in OpenAI's words: chat completions and completions, whole or as events.
#pragma once

#include "server/dialects/read_request.h"
#include "server/routes.h"

namespace smelt {

struct OpenAiRequest {
    bool chat = true, stream = false, include_usage = false;
    bool logprobs = false, echo = false;
    std::vector<JobSpec> jobs;  // one a prompt, each with the same n
};

// Starts the jobs; the rest happens by itself. On the I/O thread. Throws RequestError.
void start_openai_answer(ServerContext& server, std::shared_ptr<Exchange> exchange, OpenAiRequest request);

}  // namespace smelt
