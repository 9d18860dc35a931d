// Requests of OpenAI's Responses API in the form of chat completions.
#pragma once

#include "server/dialects/schema.h"

namespace smelt {

// Of a body that its schema accepted.
Json from_responses(const Json& body);

}  // namespace smelt
