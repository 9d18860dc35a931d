// A streamed answer of any server that speaks OpenAI's API, and when its pieces came.
#pragma once

#include <string>
#include <vector>

#include "apps/connection.h"
#include "base/json.h"

namespace smelt {

struct StreamedAnswer {
    std::string text = {};
    double first_event = 0, ttft = 0, whole = 0;  // ms from the request to: any event, text, the last text
    double end = 0;                               // ms to the end of the stream
    std::vector<double> itl = {};                 // ms between two events with text
    int n_prompt = 0, n_tokens = 0;               // as the server counts them
    double engine_ttft = -1, engine_decode = -1;  // ms, where the server says

    double tpot() const { return n_tokens > 1 ? (whole - ttft) / (n_tokens - 1) : 0; }
};
// `body` asks for a stream with usage. Throws Error with what the server said.
StreamedAnswer stream_answer(const ServerAddress& address, const std::string& path, const Json& body,
                             const std::string& key = "");

// The first model that the server has.
std::string first_model(const ServerAddress& address, const std::string& key = "");

}  // namespace smelt
