// Messages and tools in OpenAI's form, in which all chat dialects meet: what they may be, and what templates
// get of them.
#pragma once

#include "server/dialects/schema.h"

namespace smelt {

extern const CompoundType tools_type, tool_choice_type;

// Of checked messages: parts joined, names that templates know, arguments of calls as objects, and ids of
// calls that every template takes.
Json template_messages(const Json& messages);

Json template_tools(const Json& tools);

// What a checked body says of tools.
struct ToolRules {
    Json tools = {};  // array; null: none
    bool may_call = false;
    bool must_call = false;
    bool parallel = true;
    std::string only = {};  // the one function that may be called; empty: any
};
// Throws RequestError where the fields contradict each other.
ToolRules read_tool_rules(const Json& body);

}  // namespace smelt
