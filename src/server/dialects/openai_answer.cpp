// Bodies and events differ in two places: a choice's text, and its log-probabilities.
#include "server/dialects/openai_answer.h"

namespace smelt {

namespace {

struct Choice {
    std::string text, thinking, finish_reason;
    ToolCallTexts calls = {};
    std::vector<TokenEvent> tokens;
    size_t offset = 0;    // of the next token's text
    bool echoed = false;  // where it is streamed
};

Json call_json(const ToolCallText& call) {
    return {{"id", call.id},
            {"type", "function"},
            {"function", {{"name", call.name}, {"arguments", call.arguments}}}};
}

// The first delta of a call has its id and name.
Json call_delta_json(const ToolCallText& call, const ToolCallDelta& delta) {
    if (delta.name.empty()) {
        return {{"index", delta.index}, {"function", {{"arguments", delta.arguments}}}};
    }
    return {{"index", delta.index},
            {"id", call.id},
            {"type", "function"},
            {"function", {{"name", delta.name}, {"arguments", delta.arguments}}}};
}

class OpenAiAnswer final : public JobListener, public std::enable_shared_from_this<OpenAiAnswer> {
 public:
    OpenAiAnswer(ServerContext& server, std::shared_ptr<Exchange> exchange, OpenAiRequest request)
        : server_(server),
          exchange_(std::move(exchange)),
          request_(std::move(request)),
          model_(request_.jobs.front().model),
          id_(random_id(request_.chat ? "chatcmpl-" : "cmpl-")),
          n_(request_.jobs.front().options.n),
          choices_(request_.jobs.size() * static_cast<size_t>(n_)) {}

    void start();
    void piece(int index, TextDelta text, std::vector<TokenEvent> tokens) override;
    void ended(const AnswerEnd& end) override;
    void broken() override {
        lost_ = true;
        exchange_->abandon();
    }

 private:
    void lose(Loss loss);
    void finish();
    Json envelope(bool chunk) const;
    Json choice_json(Choice& c, int index);
    Json delta_json(int index, Json delta, const std::vector<TokenEvent>& tokens, Json finish_reason);
    Json chat_logprobs_json(const std::vector<TokenEvent>& tokens) const;
    Json logprobs_json(const std::vector<TokenEvent>& tokens, Choice& c) const;
    void send_echo(int index);
    std::vector<TokenEvent> prompt_tokens(int index) const;
    Json chat_logprob(int32_t id, float logprob) const;
    std::string token_text(int32_t id) const {
        return std::string(model_.chat().tokenizer().token_bytes(id));
    }
    size_t job_of(int index) const { return static_cast<size_t>(index / n_); }
    Choice& choice(int index) { return choices_[static_cast<size_t>(index)]; }
    // With echo, what the answer begins with.
    struct Echo {
        std::string text;
        int32_t first_id = -1;
        std::vector<TokenEvent> tokens = {};  // all but the first, with log-probabilities where wanted
    };
    void send_event(const Json& event) {
        if (!lost_) exchange_->write(sse(event));
    }

    ServerContext& server_;
    std::shared_ptr<Exchange> exchange_;
    OpenAiRequest request_;
    ModelUse model_;
    std::string id_;
    int64_t created_ = std::time(nullptr);
    int n_;
    std::vector<Echo> echoes_;  // one a job
    std::vector<Choice> choices_;
    std::vector<std::shared_ptr<Job>> jobs_;
    Usage usage_;
    size_t n_ended_ = 0;
    bool lost_ = false;
    std::optional<ApiError> error_;
};

void OpenAiAnswer::start() {
    const auto post = [exchange = exchange_](std::function<void()> work) { exchange->post(std::move(work)); };
    try {
        for (JobSpec& spec : request_.jobs) {
            spec.first_index = static_cast<int>(jobs_.size()) * n_;
            echoes_.push_back(
                {.text = request_.echo ? spec.prompt.text : "", .first_id = spec.prompt.ids.front()});
            jobs_.push_back(Job::start(std::move(spec), post, shared_from_this()));
            ++server_.metrics.received;
            ++server_.metrics.accepted;
        }
    } catch (...) {
        lost_ = true;  // what started ends unheard
        for (const auto& job : jobs_) job->cancel();
        throw;
    }
    exchange_->on_loss([weak = weak_from_this()](Loss loss) {
        if (const auto self = weak.lock()) self->lose(loss);
    });
    if (!request_.stream) return;
    exchange_->on_flow([weak = weak_from_this()](bool full) {
        const auto self = weak.lock();
        if (!self) return;
        for (const auto& job : self->jobs_) job->pause(full);
    });
    exchange_->begin_stream(sse_head());
    if (!request_.chat) return;
    for (size_t i = 0; i < choices_.size(); ++i) {
        send_event(delta_json(static_cast<int>(i), {{"role", "assistant"}, {"content", ""}}, {}, nullptr));
    }
}

// The prompt with the log-probabilities that are complete once the answer has begun.
std::vector<TokenEvent> OpenAiAnswer::prompt_tokens(int index) const {
    const Echo& echo = echoes_[job_of(index)];
    if (!request_.echo || !request_.logprobs) return {};
    std::vector<TokenEvent> tokens = {{.id = echo.first_id, .of_prompt = true}};
    tokens.insert(tokens.end(), echo.tokens.begin(), echo.tokens.end());
    return tokens;
}

void OpenAiAnswer::send_echo(int index) {
    if (!request_.echo || std::exchange(choice(index).echoed, true)) return;
    send_event(delta_json(index, echoes_[job_of(index)].text, prompt_tokens(index), nullptr));
}

void OpenAiAnswer::lose(Loss loss) {
    if (loss == Loss::shutdown) {
        error_ =
            ApiError{.status = 503, .code = "shutting_down", .message = "the server ends", .retry_after = 5};
    } else {
        lost_ = true;
    }
    for (const auto& job : jobs_) job->cancel();
}

void OpenAiAnswer::piece(int index, TextDelta text, std::vector<TokenEvent> tokens) {
    if (lost_) return;
    const auto first_drawn = std::ranges::find(tokens, false, &TokenEvent::of_prompt);
    std::move(tokens.begin(), first_drawn, std::back_inserter(echoes_[job_of(index)].tokens));
    tokens.erase(tokens.begin(), first_drawn);
    if (!request_.stream) {
        Choice& c = choice(index);
        c.text += text.answer;
        c.thinking += text.thinking;
        for (const ToolCallDelta& d : text.tool_calls) c.calls.add(d);
        if (request_.logprobs) std::ranges::move(tokens, std::back_inserter(c.tokens));
        return;
    }
    if (tokens.empty() && text.empty()) return;
    send_echo(index);
    if (!request_.logprobs) tokens.clear();
    if (text.empty() && tokens.empty()) return;
    if (!request_.chat) return send_event(delta_json(index, text.thinking + text.answer, tokens, nullptr));
    Json delta = Json::object();
    if (!text.thinking.empty()) delta["reasoning_content"] = std::move(text.thinking);
    if (!text.answer.empty()) delta["content"] = std::move(text.answer);
    for (const ToolCallDelta& d : text.tool_calls) {
        delta["tool_calls"].push_back(call_delta_json(choice(index).calls.add(d), d));
    }
    send_event(delta_json(index, std::move(delta), tokens, nullptr));
}

void OpenAiAnswer::ended(const AnswerEnd& end) {
    usage_.add(end.finish);
    if (end.reason == "error" && !error_) error_ = failure_error(end.finish);
    if (end.reason == "cancelled" && !error_) {
        error_ = ApiError{
            .status = 503, .code = "shutting_down", .message = "the answer was ended", .retry_after = 5};
    }
    choices_[static_cast<size_t>(end.index)].finish_reason = end.reason;
    if (request_.stream && !error_) {
        send_echo(end.index);
        Json event = delta_json(end.index, request_.chat ? Json::object() : Json(""), {}, end.reason);
        if (n_ended_ + 1 == choices_.size()) event["timings"] = usage_.timings_json();
        send_event(event);
    }
    if (++n_ended_ == choices_.size()) finish();
}

void OpenAiAnswer::finish() {
    jobs_.clear();
    if (lost_) return;
    if (!request_.stream) {
        if (error_) return exchange_->send(error_answer(*error_));
        Json body = envelope(false);
        for (size_t i = 0; i < choices_.size(); ++i) {
            body["choices"].push_back(choice_json(choices_[i], static_cast<int>(i)));
        }
        body["usage"] = usage_.usage_json();
        body["timings"] = usage_.timings_json();
        return exchange_->send({.body = to_string(body)});
    }
    if (error_) {
        send_event(error_body(*error_));
    } else if (request_.include_usage) {
        Json event = envelope(true);
        event["usage"] = usage_.usage_json();
        send_event(event);
    }
    exchange_->write("data: [DONE]\n\n");
    exchange_->end();
}

Json OpenAiAnswer::envelope(bool chunk) const {
    const char* object = !request_.chat ? "text_completion"
                         : chunk        ? "chat.completion.chunk"
                                        : "chat.completion";
    return {{"id", id_},
            {"object", object},
            {"created", created_},
            {"model", model_.name()},
            {"system_fingerprint", "smelt-" + server_.version},
            {"choices", Json::array()}};
}

Json OpenAiAnswer::choice_json(Choice& c, int index) {
    if (!request_.chat) {
        std::vector<TokenEvent> tokens = prompt_tokens(index);
        std::ranges::move(c.tokens, std::back_inserter(tokens));
        return {{"index", index},
                {"text", echoes_[job_of(index)].text + c.text},
                {"logprobs", request_.logprobs ? logprobs_json(tokens, c) : Json()},
                {"finish_reason", c.finish_reason}};
    }
    const Json logprobs = request_.logprobs ? chat_logprobs_json(c.tokens) : Json();
    Json message = {{"role", "assistant"}, {"content", c.text}, {"refusal", nullptr}};
    if (!c.thinking.empty()) message["reasoning_content"] = c.thinking;
    if (!c.calls.all().empty()) {
        if (c.text.empty()) message["content"] = nullptr;
        for (const ToolCallText& call : c.calls.all()) message["tool_calls"].push_back(call_json(call));
    }
    return {{"index", index},
            {"message", std::move(message)},
            {"logprobs", logprobs},
            {"finish_reason", c.finish_reason}};
}

Json OpenAiAnswer::delta_json(int index, Json delta, const std::vector<TokenEvent>& tokens,
                              Json finish_reason) {
    Json event = envelope(true);
    Json logprobs;
    if (!tokens.empty()) {
        logprobs = request_.chat ? chat_logprobs_json(tokens) : logprobs_json(tokens, choice(index));
    }
    event["choices"].push_back({{"index", index},
                                {request_.chat ? "delta" : "text", std::move(delta)},
                                {"logprobs", std::move(logprobs)},
                                {"finish_reason", std::move(finish_reason)}});
    if (request_.include_usage) event["usage"] = nullptr;
    return event;
}

Json OpenAiAnswer::chat_logprob(int32_t id, float logprob) const {
    const std::string text = token_text(id);
    Json bytes = Json::array();
    for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
    return {{"token", text}, {"logprob", logprob}, {"bytes", std::move(bytes)}};
}

Json OpenAiAnswer::chat_logprobs_json(const std::vector<TokenEvent>& tokens) const {
    Json content = Json::array();
    for (const TokenEvent& t : tokens) {
        Json entry = chat_logprob(t.id, t.logprob);
        entry["top_logprobs"] = Json::array();
        for (const TokenLogprob& top : t.top)
            entry["top_logprobs"].push_back(chat_logprob(top.id, top.logprob));
        content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
}

Json OpenAiAnswer::logprobs_json(const std::vector<TokenEvent>& tokens, Choice& c) const {
    Json names = Json::array(), values = Json::array(), tops = Json::array(), offsets = Json::array();
    for (const TokenEvent& t : tokens) {
        const std::string text = token_text(t.id);
        // Nothing comes before the first token of a prompt that could make it likely or not.
        const bool first = t.of_prompt && names.empty();
        names.push_back(text);
        values.push_back(first ? Json() : Json(t.logprob));
        offsets.push_back(c.offset);
        c.offset += text.size();
        Json top = first ? Json() : Json::object();
        for (const TokenLogprob& l : t.top) top[token_text(l.id)] = l.logprob;
        if (!first) top[text] = t.logprob;
        tops.push_back(std::move(top));
    }
    return {{"tokens", std::move(names)},
            {"token_logprobs", std::move(values)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
}

}  // namespace

void start_openai_answer(ServerContext& server, std::shared_ptr<Exchange> exchange, OpenAiRequest request) {
    std::make_shared<OpenAiAnswer>(server, std::move(exchange), std::move(request))->start();
}

}  // namespace smelt
