// Bodies and events differ in two places: a choice's text, and its log-probabilities.
#include "server/dialects/openai_answer.h"

#include <set>

#include "server/dialects/openai_logprobs.h"

namespace smelt {

namespace {

// What an answer's prompt gives to its words.
struct AskedPrompt {
    std::string text;
    std::vector<int32_t> ids;
};

class OpenAiAnswer final : public Answer {
 public:
    OpenAiAnswer(Setup setup, OpenAiWords words, std::vector<AskedPrompt> prompts)
        : Answer(std::move(setup)),
          prompts_(std::move(prompts)),
          words_(words),
          id_(random_id(words.chat ? "chatcmpl-" : "cmpl-")),
          logprobs_(chat().tokenizer()) {}

 private:
    bool keeps_tokens() const override { return words_.logprobs || words_.prompt_logprobs; }
    void begin() override;
    void more(int index, const TextDelta& text, const std::vector<TokenEvent>& tokens) override;
    void computed(int index, const PromptProgress& p) override {
        if (!words_.progress) return;
        Json event = delta_json(index, words_.chat ? Json::object() : Json(""), {}, nullptr);
        event["prompt_progress"] = progress_json(p);
        send_event(event);
    }
    void one_ended(int index) override;
    void end() override;
    void fail(const ApiError& error) override {
        send_event(error_body(error));
        write("data: [DONE]\n\n");
    }
    Json whole() override;
    std::string whole_text() override;

    Json envelope(bool chunk) const;
    Json choice_json(int index);
    Json message_json(const Choice& c) const;
    Json delta_json(int index, Json delta, std::span<const TokenEvent> tokens, Json finish_reason);
    Json call_delta_json(const ToolCallText& call, const ToolCallDelta& delta) const;
    std::string finish_reason(const Choice& c) const {
        return words_.older_calls && c.end.reason == "tool_calls" ? "function_call" : c.end.reason;
    }
    void send_echo(int index);
    // The tokens of the prompt with their log-probabilities, and those of the answer.
    std::vector<TokenEvent> prompt_tokens(int index) const;
    static std::vector<TokenEvent> drawn(std::span<const TokenEvent> tokens);
    void send_event(const Json& event) { write(sse(event)); }
    void send_piece(Json event) {
        if (words_.timings_per_token) event["timings"] = live_usage().timings_json();
        send_event(event);
    }
    void add_prompt(Json& body) const {
        if (words_.verbose) body["__verbose"] = {{"prompt", prompts_.front().text}};
    }

    std::vector<AskedPrompt> prompts_;  // where echo or prompt_logprobs need them
    OpenAiWords words_;
    std::string id_;
    int64_t created_ = std::time(nullptr);
    OpenAiLogprobs logprobs_;
    std::map<int, size_t> offsets_;  // of the next token's text, by choice
    std::set<int> echoed_;
};

void OpenAiAnswer::begin() {
    if (!words_.chat) return;
    for (size_t i = 0; i < n_choices(); ++i) {
        send_event(delta_json(static_cast<int>(i), {{"role", "assistant"}, {"content", ""}}, {}, nullptr));
    }
}

std::vector<TokenEvent> OpenAiAnswer::drawn(std::span<const TokenEvent> tokens) {
    std::vector<TokenEvent> result;
    std::ranges::copy_if(tokens, std::back_inserter(result),
                         [](const TokenEvent& t) { return !t.of_prompt; });
    return result;
}

// They come with the first answer to a prompt and are complete once it has begun. Nothing comes before the
// first token that could make it likely or not.
std::vector<TokenEvent> OpenAiAnswer::prompt_tokens(int index) const {
    const size_t prompt = prompt_of(index), n = n_choices() / prompts_.size();
    std::vector<TokenEvent> tokens = {{.id = prompts_[prompt].ids.front(), .of_prompt = true}};
    for (const TokenEvent& t : choice(static_cast<int>(prompt * n)).tokens) {
        if (t.of_prompt) tokens.push_back(t);
    }
    return tokens;
}

void OpenAiAnswer::send_echo(int index) {
    if (!words_.echo || !echoed_.insert(index).second) return;
    const std::vector<TokenEvent> tokens = words_.logprobs ? prompt_tokens(index) : std::vector<TokenEvent>();
    send_event(delta_json(index, prompts_[prompt_of(index)].text, tokens, nullptr));
}

void OpenAiAnswer::more(int index, const TextDelta& text, const std::vector<TokenEvent>& all) {
    std::vector<TokenEvent> tokens = drawn(all);
    if (tokens.empty() && text.empty()) return;
    send_echo(index);
    if (!words_.logprobs) tokens.clear();
    if (text.empty() && tokens.empty()) return;
    if (!words_.chat) return send_piece(delta_json(index, text.thinking + text.answer, tokens, nullptr));
    Json delta = Json::object();
    if (!text.thinking.empty()) delta["reasoning_content"] = text.thinking;
    if (!text.answer.empty()) delta["content"] = text.answer;
    for (const ToolCallDelta& d : text.tool_calls) {
        const Json call = call_delta_json(choice(index).calls.all()[static_cast<size_t>(d.index)], d);
        if (words_.older_calls) {
            delta["function_call"] = call["function"];
        } else {
            delta["tool_calls"].push_back(call);
        }
    }
    send_piece(delta_json(index, std::move(delta), tokens, nullptr));
}

void OpenAiAnswer::one_ended(int index) {
    send_echo(index);
    Json event = delta_json(index, words_.chat ? Json::object() : Json(""), {}, finish_reason(choice(index)));
    if (words_.prompt_logprobs) {
        event["choices"][0]["prompt_logprobs"] = logprobs_.of_prompt(prompt_tokens(index));
    }
    if (all_ended()) {
        event["timings"] = usage().timings_json();
        add_prompt(event);
        add_warnings(event);
    }
    send_event(event);
}

void OpenAiAnswer::end() {
    if (words_.include_usage) {
        Json event = envelope(true);
        event["usage"] = usage().usage_json();
        event["timings"] = usage().timings_json();
        send_event(event);
    }
    write("data: [DONE]\n\n");
}

// Choices one by one: with their log-probabilities each may be large, and a value takes more than its text.
std::string OpenAiAnswer::whole_text() {
    constexpr std::string_view no_choices = "\"choices\":[]";  // in no string, where quotes are escaped
    std::string text = to_string(whole());
    const size_t at = text.find(no_choices) + no_choices.size() - 1;
    const std::string rest = text.substr(at);
    text.resize(at);
    for (size_t i = 0; i < n_choices(); ++i) {
        if (i > 0) text += ',';
        text += to_string(choice_json(static_cast<int>(i)));
        choice(static_cast<int>(i)).text = {};
    }
    return text + rest;
}

// All but the choices.
Json OpenAiAnswer::whole() {
    Json body = envelope(false);
    if (words_.prompt_logprobs && words_.chat)
        body["prompt_logprobs"] = logprobs_.of_prompt(prompt_tokens(0));
    body["usage"] = usage().usage_json();
    body["timings"] = usage().timings_json();
    add_prompt(body);
    add_warnings(body);
    return body;
}

Json OpenAiAnswer::envelope(bool chunk) const {
    const char* object = !words_.chat ? "text_completion"
                         : chunk      ? "chat.completion.chunk"
                                      : "chat.completion";
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", model()},
            {"system_fingerprint", "smelt-" + server().version},
            {"choices", Json::array()}};
}

Json OpenAiAnswer::message_json(const Choice& c) const {
    Json message = {{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}};
    if (!c.thinking.empty()) message["reasoning_content"] = c.thinking;
    if (c.calls.all().empty()) return message;
    if (c.text.empty()) message["content"] = nullptr;
    for (const ToolCallText& call : c.calls.all()) {
        const Json function = {{"name", call.name}, {"arguments", call.arguments}};
        if (words_.older_calls) {
            message["function_call"] = function;
            break;
        }
        message["tool_calls"].push_back({{"id", call.id}, {"type", "function"}, {"function", function}});
    }
    return message;
}

Json OpenAiAnswer::choice_json(int index) {
    const Choice& c = choice(index);
    const std::vector<TokenEvent> tokens = drawn(c.tokens);
    Json body = {{"index", index}, {"finish_reason", finish_reason(c)}};
    if (words_.chat) {
        body["message"] = message_json(c);
        body["logprobs"] = words_.logprobs ? logprobs_.of_chat(tokens) : Json();
        return body;
    }
    body["text"] = (words_.echo ? prompts_[prompt_of(index)].text : "") + c.thinking + c.text;
    if (words_.prompt_logprobs) body["prompt_logprobs"] = logprobs_.of_prompt(prompt_tokens(index));
    body["logprobs"] = nullptr;
    if (!words_.logprobs) return body;
    std::vector<TokenEvent> all = words_.echo ? prompt_tokens(index) : std::vector<TokenEvent>();
    all.insert(all.end(), tokens.begin(), tokens.end());
    body["logprobs"] = logprobs_.of_completion(all, offsets_[index]);
    return body;
}

Json OpenAiAnswer::delta_json(int index, Json delta, std::span<const TokenEvent> tokens, Json finish_reason) {
    Json event = envelope(true);
    Json logprobs;
    if (!tokens.empty()) {
        logprobs = words_.chat ? logprobs_.of_chat(tokens) : logprobs_.of_completion(tokens, offsets_[index]);
    }
    event["choices"].push_back({{"index", index},
                                {words_.chat ? "delta" : "text", std::move(delta)},
                                {"logprobs", std::move(logprobs)},
                                {"finish_reason", std::move(finish_reason)}});
    if (words_.include_usage) event["usage"] = nullptr;
    return event;
}

// The first delta of a call has its id and name.
Json OpenAiAnswer::call_delta_json(const ToolCallText& call, const ToolCallDelta& delta) const {
    if (delta.name.empty()) {
        return {{"index", delta.index}, {"function", {{"arguments", delta.arguments}}}};
    }
    return {{"index", delta.index},
            {"id", call.id},
            {"type", "function"},
            {"function", {{"name", delta.name}, {"arguments", delta.arguments}}}};
}

}  // namespace

void start_openai_answer(const Call& call, std::vector<JobSpec> jobs, bool stream, OpenAiWords words) {
    std::vector<AskedPrompt> prompts;
    for (JobSpec& job : jobs) job.tells_progress = stream && (words.progress || words.timings_per_token);
    if (words.echo || words.prompt_logprobs || words.verbose) {
        for (JobSpec& job : jobs) {
            prompts.push_back({job.prompt.text, job.prompt.ids});
            size_t n = job.prompt.text.size();
            if (job.options.n_prompt_logprobs >= 0) {
                const auto n_logprobs = static_cast<size_t>(1 + job.options.n_prompt_logprobs);
                n += job.prompt.ids.size() * n_logprobs * logprob_bytes;
            }
            job.answer_bytes = n * static_cast<size_t>(job.options.n);
        }
    }
    start_answer<OpenAiAnswer>(call, std::move(jobs), stream, ErrorStyle::openai, words, std::move(prompts));
}

}  // namespace smelt
