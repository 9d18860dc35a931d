// Messages and tools as OpenAI's chat completions write them, which other routes take too.
#pragma once

#include "chat/conversation.h"
#include "server/dialects/schema.h"

namespace smelt {

extern const CompoundType messages_type, tools_type, tool_choice_type, functions_type, function_call_type;

// Throw RequestError naming the place.
std::vector<Message> read_messages(const std::string& param, const Json& v);
// From tools, tool_choice and parallel_tool_calls, or their older names functions and function_call.
ToolRules read_tool_rules(const Json& body);

// The function of a tool, from wherever a dialect has it: name, description, parameters, strict.
Tool read_function(const std::string& param, const Json& function);
// Throws RequestError where a name comes twice, or `only` is none of them.
void check_tool_rules(const ToolRules& rules, const char* name_format, const std::string& choice);

// A JSON object, or one as text; what is blank counts as one without members.
Json read_arguments(const std::string& param, const Json& v);

inline constexpr size_t max_tools = 128;

}  // namespace smelt
