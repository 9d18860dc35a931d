// Ollama's requests in OpenAI's form.
#pragma once

#include "server/dialects/schema.h"

namespace smelt {

extern const CompoundType ollama_keep_alive_type;

// Of bodies that their schemas accepted. The first is what chat completions take, the second what /generate
// takes; either may be empty of messages or prompt, which in Ollama's dialect only loads the model.
Json from_ollama_chat(const Json& body);
Json from_ollama_generate(const Json& body);

// "demo-5m:latest" -> "demo-5m"
std::string ollama_name(const std::string& model);

}  // namespace smelt
