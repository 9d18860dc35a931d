// What a client or a person asks of a model, typed: every dialect of the server and the terminal read their
// words into this once. Knows no dialect and no socket.
#pragma once

#include "chat/chat_model.h"
#include "chat/conversation.h"
#include "sampling/sampling_table.h"

namespace smelt {

// What an answer is held to.
struct AnswerBound {
    GrammarSpec spec;
    std::string param;  // the field that says so, for errors
};

// Text or token ids that an answer goes on from, without a template.
using PlainPrompt = std::variant<std::string, std::vector<int32_t>>;

struct ChatRequest {
    std::string model = {};     // empty: the only one, or auto
    std::string priority = {};  // which model, where it is auto: speed, quality, balanced

    std::vector<Message> messages = {};
    std::optional<PlainPrompt> plain = {};  // in place of messages
    std::string param = "messages";         // the field that the prompt came from, for errors

    ToolRules tools = {};
    std::optional<bool> thinking = {};  // none: as the template does by itself
    Json template_kwargs = {};          // object of further template variables, or null
    bool add_generation_prompt = true;
    bool continues = false;  // the last message is the beginning of the answer

    std::optional<AnswerBound> bound = {};
    SamplingChanges sampling = {};  // of what the model's file says
    std::optional<std::vector<std::string>> dry_breakers = {};
    GenerateOptions options = {};  // the rest; of its sampling the seed and the biases count
    // Ids of adapters and their scales, in place of those that the model's name brings.
    std::optional<std::vector<std::pair<int, float>>> lora = {};
    std::string cache_salt = {};
    std::string prediction = {};  // how the answer may go

    std::vector<std::string> warnings = {};  // what was asked for and left out
};

bool has_pictures(const ChatRequest& request);
// Throws Error where the template refuses, or ids are not the vocabulary's.
Prompt make_prompt(const ChatModel& model, const ChatRequest& request);
Prompt make_plain_prompt(const ChatModel& model, const PlainPrompt& plain, const std::string& param);
// Without the grammar, which takes its time; see answer_grammar().
GenerateOptions make_options(const ChatModel& model, const ChatRequest& request);

}  // namespace smelt
