// The plain dialect: POST /generate, and the same requests over a WebSocket, many at a time.
#include <unordered_map>

#include "server/dialects/read_request.h"
#include "server/routes.h"

namespace smelt {

namespace {

constexpr int default_max_tokens = 100;
constexpr size_t max_jobs_per_socket = 64;

// Where events go: an HTTP answer or a WebSocket.
struct EventSink {
    std::function<void(Json)> event;
    std::function<void()> done;
    std::function<void()> abandon = [] {};
};

// The events of one request: start, token ..., end, or error.
class GenerateAnswer final : public JobListener, public std::enable_shared_from_this<GenerateAnswer> {
 public:
    GenerateAnswer(std::string model, int n, EventSink sink)
        : model_(std::move(model)), answers_(static_cast<size_t>(n)), sink_(std::move(sink)) {}

    void start(ServerContext& server, JobSpec spec, Job::Post post) {
        job_ = Job::start(std::move(spec), std::move(post), shared_from_this());
        ++server.metrics.received;
        ++server.metrics.accepted;
        sink_.event({{"type", "start"}, {"model", model_}});
    }
    void cancel() {
        if (job_) job_->cancel();
    }
    void pause(bool stop) {
        if (job_) job_->pause(stop);
    }
    // Nobody listens any more.
    void drop() {
        sink_ = {[](Json) {}, [] {}};
        cancel();
    }
    void end_early() {
        shutdown_ = true;
        cancel();
    }

    void piece(int index, TextDelta text, std::vector<TokenEvent> tokens) override {
        Json event = {
            {"type", "token"}, {"index", index}, {"text", text.answer}, {"n_tokens", tokens.size()}};
        if (!text.thinking.empty()) event["thinking"] = text.thinking;
        if (!text.answer.empty() || !text.thinking.empty()) sink_.event(std::move(event));
    }

    void ended(const AnswerEnd& end) override {
        usage_.add(end.finish);
        answers_[static_cast<size_t>(end.index)] = {{"index", end.index}, {"finish_reason", end.reason}};
        if (end.reason == "error") error_ = failure_error(end.finish);
        if (++n_ended_ < answers_.size()) return;
        if (shutdown_ && end.reason == "cancelled") {
            error_ = ApiError{
                .status = 503, .code = "shutting_down", .message = "the server ends", .retry_after = 5};
        }
        const EventSink sink = sink_;
        if (error_) {
            Json event = error_body(*error_);
            event["type"] = "error";
            event["status"] = error_->status;
            sink.event(std::move(event));
        } else {
            sink.event({{"type", "end"},
                        {"model", model_},
                        {"finish_reason", end.reason},
                        {"answers", answers_},
                        {"usage", usage_.usage_json()},
                        {"timings", usage_.timings_json()}});
        }
        sink.done();
        job_.reset();
    }
    void broken() override { sink_.abandon(); }

 private:
    std::string model_;
    std::vector<Json> answers_;
    EventSink sink_;
    std::shared_ptr<Job> job_;
    Usage usage_;
    size_t n_ended_ = 0;
    bool shutdown_ = false;
    std::optional<ApiError> error_;
};

EventSink streamed(const std::shared_ptr<Exchange>& exchange) {
    return {[exchange](Json event) {
                if (event["type"] == "start") exchange->begin_stream(sse_head());
                exchange->write(sse(event));
            },
            [exchange] {
                exchange->write("data: [DONE]\n\n");
                exchange->end();
            },
            [exchange] { exchange->abandon(); }};
}

// Collects the texts and answers with one object.
EventSink whole(const std::shared_ptr<Exchange>& exchange) {
    struct Collected {
        std::map<int, TextDelta> texts;
    };
    auto all = std::make_shared<Collected>();
    return {[exchange, all](Json event) {
                const std::string type = event["type"];
                if (type == "token") {
                    TextDelta& t = all->texts[event["index"].get<int>()];
                    t.answer += event["text"].get<std::string>();
                    if (const auto thinking = get<std::string>(event, "thinking")) t.thinking += *thinking;
                } else if (type == "error") {
                    const int status = event["status"];
                    event.erase("type");
                    event.erase("status");
                    exchange->send({.status = status, .body = to_string(event)});
                } else if (type == "end") {
                    Json answers = event["answers"];
                    for (Json& a : answers) {
                        const TextDelta& t = all->texts[a["index"].get<int>()];
                        a["text"] = t.answer;
                        a["thinking"] = t.thinking.empty() ? Json() : Json(t.thinking);
                    }
                    Json body = {{"model", event["model"]},
                                 {"text", answers[0]["text"]},
                                 {"thinking", answers[0]["thinking"]},
                                 {"finish_reason", answers[0]["finish_reason"]}};
                    if (answers.size() > 1) body["answers"] = answers;
                    body["usage"] = event["usage"];
                    body["timings"] = event["timings"];
                    exchange->send({.body = to_string(body)});
                }
            },
            [] {}, [exchange] { exchange->abandon(); }};
}

class StreamSocket final : public WebSocketListener, public std::enable_shared_from_this<StreamSocket> {
 public:
    StreamSocket(ServerContext& server, std::shared_ptr<WebSocketPeer> peer, std::string key)
        : server_(server), peer_(std::move(peer)), key_(std::move(key)) {}

    std::function<void()> read(std::string text) override {
        auto m = std::make_shared<Message>();
        try {
            parse(text, *m);
        } catch (...) {
            m->error = current_error(server_);
        }
        return [self = shared_from_this(), m] { self->act(*m); };
    }
    void flow(bool full) override {
        full_ = full;
        for (const auto& [id, answer] : answers_) answer->pause(full);
    }
    void closed() override {
        const auto answers = std::move(answers_);
        answers_.clear();
        for (const auto& [id, answer] : answers) answer->drop();
        peer_.reset();
    }
    void drain() override {
        ending_ = true;
        if (answers_.empty()) peer_->close(1001, "the server ends");
    }
    void cut() override {
        drain();
        const auto answers = answers_;
        for (const auto& [id, answer] : answers) answer->end_early();
    }

 private:
    struct Message {
        std::string id, type;
        std::optional<JobSpec> job;
        std::optional<ApiError> error;
    };

    void parse(const std::string& text, Message& m) const;
    void act(Message& m);
    void start(const std::string& id, JobSpec job);
    void refuse(const std::string& id, const ApiError& error) {
        ++server_.metrics.received;
        ++server_.metrics.rejected;
        Json event = error_body(error);
        event["type"] = "error";
        event["id"] = id;
        event["status"] = error.status;
        peer_->send(to_string(event));
    }

    ServerContext& server_;
    std::shared_ptr<WebSocketPeer> peer_;
    const std::string key_;
    std::unordered_map<std::string, std::shared_ptr<GenerateAnswer>> answers_;
    bool ending_ = false, full_ = false;
};

// On a worker: nothing of the socket is touched.
void StreamSocket::parse(const std::string& text, Message& m) const {
    Json body;
    try {
        body = parse_json(text, "message", {.max_values = server_.max_json_values});
    } catch (const Error& e) {
        throw bad_request("invalid_json", "", "{}", e.what());
    }
    if (!body.is_object()) throw bad_request("invalid_json", "", "expected a JSON object as the message");
    const auto text_of = [&](const char* name, const char* fallback) -> std::string {
        const auto it = body.find(name);
        if (it == body.end() || it->is_null()) return fallback;
        if (it->is_number_integer()) return to_string(*it);
        if (!it->is_string() || it->get_ref<const std::string&>().size() > 256) {
            throw bad_request("invalid_type", name, "{}: expected a string of at most 256 bytes", name);
        }
        return it->get<std::string>();
    };
    m.id = text_of("id", "");
    m.type = text_of("type", "generate");
    if (m.type == "ping" || m.type == "cancel") return;
    if (m.type != "generate") {
        throw bad_request("invalid_value", "type", "type: expected generate, cancel or ping");
    }
    body.erase("type");
    body.erase("id");
    check_body(body, generate_schema, server_.strict);
    m.job = make_question_job(server_, body, key_, default_max_tokens);
}

void StreamSocket::act(Message& m) {
    if (!peer_) return;
    try {
        if (m.error) throw RequestError(*m.error);
        if (m.type == "ping") return peer_->send(to_string(Json{{"type", "pong"}, {"id", m.id}}));
        const auto known = answers_.find(m.id);
        if (m.type == "generate") {
            if (known != answers_.end()) {
                throw bad_request("invalid_value", "id", "a request with this id is running");
            }
            return start(m.id, std::move(*m.job));
        }
        if (known == answers_.end()) {
            throw bad_request("invalid_value", "id", "no request with this id is running");
        }
        known->second->cancel();
    } catch (...) {
        refuse(m.id, current_error(server_));
    }
}

void StreamSocket::start(const std::string& id, JobSpec job) {
    if (ending_ || answers_.size() >= max_jobs_per_socket) {
        throw RequestError({.status = 503,
                            .code = ending_ ? "shutting_down" : "server_overloaded",
                            .message = "no more requests on this socket now",
                            .retry_after = 1});
    }
    const EventSink sink = {[weak = weak_from_this(), id](Json event) {
                                event["id"] = id;
                                const auto self = weak.lock();
                                if (self && self->peer_) self->peer_->send(to_string(event));
                            },
                            [weak = weak_from_this(), id] {
                                const auto self = weak.lock();
                                if (!self) return;
                                self->answers_.erase(id);
                                if (self->ending_ && self->answers_.empty() && self->peer_) {
                                    self->peer_->close(1001, "the server ends");
                                }
                            },
                            [weak = weak_from_this()] {
                                const auto self = weak.lock();
                                if (self && self->peer_) self->peer_->close(1011, "too little memory");
                            }};
    const auto answer = std::make_shared<GenerateAnswer>(job.model.name(), job.options.n, sink);
    answer->start(server_, std::move(job),
                  [peer = peer_](std::function<void()> work) { peer->post(std::move(work)); });
    answers_[id] = answer;
    if (full_) answer->pause(true);
}

}  // namespace

void generate(Call& call) {
    const auto job =
        std::make_shared<JobSpec>(make_question_job(call.server, call.body, call.key, default_max_tokens));
    const bool stream = get<bool>(call.body, "stream").value_or(false);
    call.exchange->post([&server = call.server, exchange = call.exchange, job, stream] {
        answer_errors(server, *exchange, true, [&] {
            const auto answer = std::make_shared<GenerateAnswer>(
                job->model.name(), job->options.n, stream ? streamed(exchange) : whole(exchange));
            answer->start(server, std::move(*job),
                          [exchange](std::function<void()> work) { exchange->post(std::move(work)); });
            exchange->on_loss([weak = std::weak_ptr(answer)](Loss loss) {
                const auto a = weak.lock();
                if (!a) return;
                if (loss == Loss::shutdown) return a->end_early();
                a->drop();
            });
            if (!stream) return;
            exchange->on_flow([weak = std::weak_ptr(answer)](bool full) {
                if (const auto a = weak.lock()) a->pause(full);
            });
        });
    });
}

std::shared_ptr<WebSocketListener> open_stream(ServerContext& server, std::shared_ptr<WebSocketPeer> peer,
                                               std::string key) {
    return std::make_shared<StreamSocket>(server, std::move(peer), std::move(key));
}

}  // namespace smelt
