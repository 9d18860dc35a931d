// OpenAI's "prediction": how the client thinks that the answer goes, such as a file that is to be changed in
// a few places. What of it comes is not waited for token by token; the answer is the same with and without.
#pragma once

#include <string>

#include "server/dialects/schema.h"

namespace smelt {

extern const CompoundType prediction_type;

// Empty where the request has none.
std::string read_prediction(const Json& body);

}  // namespace smelt
