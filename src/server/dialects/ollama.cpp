// Ollama's dialect: POST /api/chat and /api/generate, a line of JSON at a time.
#include <fmt/chrono.h>

#include "server/dialects/answer.h"
#include "server/dialects/make_job.h"
#include "server/dialects/ollama_request.h"

namespace smelt {

namespace {

int64_t nanoseconds(double seconds) {
    return static_cast<int64_t>(1e9 * seconds);
}

class OllamaAnswer final : public ChatAnswer {
 public:
    OllamaAnswer(Setup setup, bool chat) : ChatAnswer(std::move(setup)), chat_(chat) {}

 private:
    HttpAnswer head() const override { return {.type = "application/x-ndjson"}; }

    void more(const TextDelta& text) override {
        if (text.answer.empty() && text.thinking.empty()) return;
        line(said(text.thinking, text.answer), false);
    }

    void end() override {
        // Arguments are objects here, so a call is told of when it is complete.
        if (!calls().all().empty()) {
            Json message = said("", "");
            add_calls(message);
            line(std::move(message), false);
        }
        write(to_string(last(said("", ""))) + "\n");
    }

    void fail(const ApiError& error) override {
        write(to_string(error_body(error, ErrorStyle::ollama)) + "\n");
    }

    Json whole() override {
        Json message = said(thinking(), text());
        if (!calls().all().empty()) add_calls(message);
        return last(std::move(message));
    }

    Json said(const std::string& thinking, const std::string& text) const {
        Json message = chat_ ? Json{{"role", "assistant"}, {"content", text}} : Json{{"response", text}};
        if (!thinking.empty()) message["thinking"] = thinking;
        return message;
    }
    void add_calls(Json& message) const {
        for (const ToolCallText& call : calls().all()) {
            message["tool_calls"].push_back(
                {{"id", call.id}, {"function", {{"name", call.name}, {"arguments", call.object()}}}});
        }
    }
    Json envelope(Json message, bool done) const {
        Json body = {{"model", model()}, {"created_at", ollama_time(std::chrono::system_clock::now())}};
        if (chat_) {
            body["message"] = std::move(message);
        } else {
            body.update(message);
        }
        body["done"] = done;
        return body;
    }
    void line(Json message, bool done) { write(to_string(envelope(std::move(message), done)) + "\n"); }

    Json last(Json message) const {
        const AnswerEnd& end = ending();
        const FinishEvent& f = end.finish;
        Json body = envelope(std::move(message), true);
        body["done_reason"] = end.reason == "length" ? "length" : "stop";
        body["total_duration"] = nanoseconds(f.queued + f.prefill + f.decode);
        body["load_duration"] = nanoseconds(f.queued);
        body["prompt_eval_count"] = f.n_prompt;
        body["prompt_eval_duration"] = nanoseconds(f.prefill);
        body["eval_count"] = f.n_generated;
        body["eval_duration"] = nanoseconds(f.decode);
        add_warnings(body);
        return body;
    }

    bool chat_;
};

// A request without anything to answer loads the model, which choosing it does.
void answer_loaded(Call& call, const ChatRequest& request, bool chat) {
    const ModelUse model = choose_model(call.server, request, call.key);
    Json body = {{"model", model.name()}, {"created_at", ollama_time(std::chrono::system_clock::now())}};
    if (chat) {
        body["message"] = {{"role", "assistant"}, {"content", ""}};
    } else {
        body["response"] = "";
    }
    body["done_reason"] = "load";
    body["done"] = true;
    call.exchange->send({.body = to_string(body) + "\n", .type = "application/x-ndjson"});
    ++call.server.metrics.received;
    ++call.server.metrics.accepted;
}

void answer(Call& call, ChatRequest request, bool chat) {
    request.warnings.insert(request.warnings.begin(), call.warnings.begin(), call.warnings.end());
    start_answer<OllamaAnswer>(call, one_job(make_job(call.server, std::move(request), call.key, call.turn)),
                               get<bool>(call.body, "stream").value_or(true), ErrorStyle::ollama, chat);
}

}  // namespace

std::string ollama_time(std::chrono::system_clock::time_point t) {
    const auto since = t.time_since_epoch();
    const auto nano = std::chrono::duration_cast<std::chrono::nanoseconds>(since).count() % 1'000'000'000;
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:09}Z", fmt::gmtime(std::chrono::system_clock::to_time_t(t)),
                       nano);
}

void ollama_chat(Call& call) {
    ChatRequest request = read_ollama_chat(call.body);
    if (request.messages.empty()) return answer_loaded(call, request, true);
    answer(call, std::move(request), true);
}

void ollama_generate(Call& call) {
    ChatRequest request = read_ollama_question(call.body);
    if (request.messages.empty() && !request.plain) return answer_loaded(call, request, false);
    answer(call, std::move(request), false);
}

}  // namespace smelt
