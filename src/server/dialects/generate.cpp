// The plain dialect: POST /generate, and the same requests over a WebSocket, many at a time.
#include "server/dialects/generate.h"

#include <unordered_map>

#include "server/dialects/make_job.h"
#include "server/dialects/openai_request.h"

namespace smelt {

namespace {

constexpr int default_max_tokens = 100;

// One object, or the events of one request: start, token ..., end, or error.
class GenerateAnswer final : public Answer {
 public:
    // With an id: events are messages of a socket that carry it. Without: server-sent events.
    GenerateAnswer(Setup setup, std::optional<std::string> id)
        : Answer(std::move(setup)), id_(std::move(id)) {}

 private:
    void begin() override { event({{"type", "start"}, {"model", model()}}); }

    void more(int index, const TextDelta& text, const std::vector<TokenEvent>& tokens) override {
        if (text.answer.empty() && text.thinking.empty()) return;
        Json e = {{"type", "token"}, {"index", index}, {"text", text.answer}, {"n_tokens", tokens.size()}};
        if (!text.thinking.empty()) e["thinking"] = text.thinking;
        event(std::move(e));
    }

    void end() override {
        Json answers = Json::array();
        for (size_t i = 0; i < n_choices(); ++i) {
            answers.push_back({{"index", i}, {"finish_reason", choice(static_cast<int>(i)).end.reason}});
        }
        Json e = {{"type", "end"},
                  {"model", model()},
                  {"finish_reason", choice(0).end.reason},
                  {"answers", std::move(answers)},
                  {"usage", usage().usage_json()},
                  {"timings", usage().timings_json()}};
        add_warnings(e);
        event(std::move(e));
        done();
    }

    void fail(const ApiError& error) override {
        Json e = error_body(error);
        e["type"] = "error";
        e["status"] = error.status;
        event(std::move(e));
        done();
    }

    Json whole() override {
        Json answers = Json::array();
        for (size_t i = 0; i < n_choices(); ++i) answers.push_back(answer_json(static_cast<int>(i)));
        Json body = {{"model", model()},
                     {"text", answers[0]["text"]},
                     {"thinking", answers[0]["thinking"]},
                     {"finish_reason", answers[0]["finish_reason"]}};
        if (answers.size() > 1) body["answers"] = std::move(answers);
        body["usage"] = usage().usage_json();
        body["timings"] = usage().timings_json();
        add_warnings(body);
        return body;
    }

    Json answer_json(int index) const {
        const Choice& c = choice(index);
        return {{"index", index},
                {"text", c.text},
                {"thinking", c.thinking.empty() ? Json() : Json(c.thinking)},
                {"finish_reason", c.end.reason}};
    }

    void event(Json e) {
        if (!id_) return write(sse(e));
        e["id"] = *id_;
        write(to_string(e));
    }
    void done() {
        if (!id_) write("data: [DONE]\n\n");
    }

    std::optional<std::string> id_;
};

}  // namespace

JobSpec make_question_job(ServerContext& server, const Json& body, const std::string& key,
                          const WorkerTurn& turn, std::vector<std::string> warnings) {
    ChatRequest request = read_question(body, default_max_tokens);
    request.warnings = std::move(warnings);
    return make_job(server, std::move(request), key, turn);
}

std::shared_ptr<Answer> make_socket_answer(ServerContext& server, std::shared_ptr<Exchange> exchange,
                                           JobSpec job, std::string id) {
    const auto record = make_record(server, id, "WS", "/ws/stream");
    Answer::Setup setup{
        server, logged(std::move(exchange), record), one_job(std::move(job)), true, ErrorStyle::openai,
        record};
    return std::make_shared<GenerateAnswer>(std::move(setup), std::move(id));
}

void generate(Call& call) {
    JobSpec job = make_question_job(call.server, call.body, call.key, call.turn, std::move(call.warnings));
    start_answer<GenerateAnswer>(call, one_job(std::move(job)),
                                 get<bool>(call.body, "stream").value_or(false), ErrorStyle::openai,
                                 std::optional<std::string>());
}

}  // namespace smelt
