// What a request says an answer must look like, in OpenAI's, vLLM's and llama.cpp's spellings.
#pragma once

#include "chat/chat_request.h"
#include "server/dialects/schema.h"
#include "server/http/http.h"

namespace smelt {

std::vector<Field> constraint_fields();

// Throws RequestError where there is more than one.
std::optional<AnswerBound> read_bound(const Json& body);

// Where a dialect has the schemas of tools, which can be wrong; {} is the number of the tool.
struct SchemaNames {
    const char* parameters = "tools[{}].function.parameters";
};

// Where and for whom a form is compiled.
struct CompileTurn {
    const WorkerTurn& turn;              // a form that is not among the latest takes long
    size_t n_prompt;                     // tokens of the context that are taken
    std::vector<std::string>& warnings;  // gets what a tool that is not strict asked for and is not kept
};

// Compiles what an answer is held to. Null: it is free. Throws RequestError invalid_schema: what cannot be
// enforced is refused before a token is made.
std::shared_ptr<TokenGrammar> compile_chat_constraint(const ChatModel& model, const Prompt& prompt,
                                                      const ChatRequest& request, const SchemaNames& names,
                                                      const CompileTurn& turn);
std::shared_ptr<TokenGrammar> compile_text_constraint(const ChatModel& model, const ChatRequest& request,
                                                      const CompileTurn& turn);

}  // namespace smelt
