// Requests of OpenAI's Responses API, typed.
#pragma once

#include "chat/chat_request.h"

namespace smelt {

// Of a body that its schema accepted. Throws RequestError naming the place.
ChatRequest read_responses_request(const Json& body);

}  // namespace smelt
