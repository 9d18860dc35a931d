// Anthropic's messages as a request in OpenAI's form.
#pragma once

#include "server/dialects/schema.h"

namespace smelt {

// Of a body that its schema accepted.
Json from_anthropic(const Json& body);

}  // namespace smelt
