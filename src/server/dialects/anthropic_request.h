// Anthropic's messages as typed requests.
#pragma once

#include "chat/chat_request.h"

namespace smelt {

// Of a body that its schema accepted. Throws RequestError naming the place.
ChatRequest read_anthropic_request(const Json& body);
// What count_tokens counts.
ChatRequest read_anthropic_conversation(const Json& body);

}  // namespace smelt
