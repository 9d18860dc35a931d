// Ollama's requests, typed.
#pragma once

#include "chat/chat_request.h"
#include "server/dialects/schema.h"

namespace smelt {

extern const CompoundType ollama_keep_alive_type;

// Of bodies that their schemas accepted. Without messages, or without a prompt, a request only loads the
// model. Throw RequestError naming the place.
ChatRequest read_ollama_chat(const Json& body);
ChatRequest read_ollama_question(const Json& body);

// "demo-5m:latest" -> "demo-5m"
std::string ollama_name(const std::string& model);

}  // namespace smelt
