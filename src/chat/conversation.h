// A conversation as typed parts: the one form in which dialects, terminal and templates meet, so that order,
// ids and kinds cannot be lost. Knows no dialect; template_messages() says what templates get of it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"

namespace smelt {

enum class Role { system, user, assistant, tool };

struct TextPart {
    std::string text;
};
// What the assistant thought before it spoke.
struct ReasoningPart {
    std::string text;
};
// Text of the assistant that says no.
struct RefusalPart {
    std::string text;
};
struct CallPart {
    size_t call = 0;  // its number in the conversation
    std::string name;
    Json arguments = Json::object();
};
struct ResultPart {
    size_t call = 0;  // the call that it answers
    std::string text;
};
// A picture, as the bytes of its file, or the address that they are fetched from.
struct ImagePart {
    std::shared_ptr<const std::string> file;  // null: url
    std::string name;                         // where it came from, for errors
    std::string url = {};
};
using Part = std::variant<TextPart, ReasoningPart, RefusalPart, CallPart, ResultPart, ImagePart>;

struct Message {
    Role role = Role::user;
    std::string name = {};  // of who speaks; empty: none
    std::vector<Part> parts = {};

    // Texts and refusals, one after the other; `between` goes between two of them.
    std::string text(std::string_view between = "") const;
    std::string reasoning() const;
    bool has_calls() const;
    bool has_pictures() const;
};

// Gives each result to its call while a conversation is read: by the call's id where the result names one,
// else to the first open call of the function that it names, else to the first open call. Calls of the latest
// message come first: some models count their ids from 0 in every turn.
class CallBook {
 public:
    void begin_message() { ++message_; }
    size_t add_call(std::string id, std::string name);  // returns the call's number
    struct Result {
        std::optional<std::string> id = {}, name = {};
    };
    // None: no such call.
    std::optional<size_t> find_call(const Result& result);

 private:
    struct Call {
        std::string id, name;
        size_t message = 0;
        bool open = true;
    };
    std::vector<Call> calls_;
    size_t message_ = 0;
};

// Results that follow each other, in the order of their calls: most templates write no ids, and a model takes
// the first result for the first call's.
void sort_results(std::vector<Message>& messages);

struct Tool {
    std::string name;
    bool strict = false;  // its calls follow the schema of its parameters
    Json function = {};   // {name, description, parameters, ...}
};

// What a request says of tools.
struct ToolRules {
    std::vector<Tool> tools = {};
    bool may_call = false;
    bool must_call = false;
    bool parallel = true;
    std::string only = {};  // the one function that may be called; empty: any

    bool any_strict() const;
    const Tool* find(const std::string& name) const;  // null: none
};

// OpenAI's form, which templates read.
Json template_messages(const std::vector<Message>& messages);
Json template_tools(const std::vector<Tool>& tools);
// And parsers of answers and grammars: it says which tools are strict, which means nothing to a template.
Json call_tools(const std::vector<Tool>& tools);

}  // namespace smelt
