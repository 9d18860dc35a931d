// What a request says an answer must look like, in OpenAI's, vLLM's and llama.cpp's spellings.
#pragma once

#include "chat/chat_model.h"
#include "server/dialects/conversation.h"

namespace smelt {

std::vector<Field> constraint_fields();

struct Constraint {
    std::optional<GrammarSpec> spec = {};
    std::string param = {};  // where it stands
};
// Throws RequestError where there is more than one.
Constraint read_constraint(const Json& body);

// Where a dialect has the two schemas that can be wrong; {} is the number of the tool.
struct SchemaNames {
    const char* answer = nullptr;  // none: as read_constraint() says
    const char* parameters = "tools[{}].function.parameters";
};

// Compiles what an answer is held to. Null: it is free. Throws RequestError invalid_schema: what cannot be
// enforced is refused before a token is made.
std::shared_ptr<TokenGrammar> compile_chat_constraint(const ChatModel& model, const Prompt& prompt,
                                                      const Json& body, const ToolRules& tools,
                                                      const SchemaNames& names);
std::shared_ptr<TokenGrammar> compile_text_constraint(const ChatModel& model, const Json& body);

}  // namespace smelt
