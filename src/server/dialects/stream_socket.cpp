// WebSocket /ws/stream: each message is a request of /generate with an id; events of many answers mix.
#include <unordered_map>

#include "server/http/memory_account.h"
#include "server/json_bytes.h"

#include "server/dialects/generate.h"

namespace smelt {

namespace {

constexpr size_t max_jobs_per_socket = 64;

// An answer's place on a socket, where many answers share one connection. Of the I/O thread.
class SocketExchange final : public Exchange {
 public:
    SocketExchange(std::shared_ptr<WebSocketPeer> peer, std::shared_ptr<MemoryShare> share,
                   std::function<void()> ended)
        : peer_(std::move(peer)), share_(std::move(share)), ended_(std::move(ended)) {}

    void send(HttpAnswer answer) override {
        write(std::move(answer.body));
        end();
    }
    void begin_stream(HttpAnswer) override {}
    void write(std::string bytes) override {
        if (!closed_) peer_->send(std::move(bytes));
    }
    void end() override {
        on_loss_ = nullptr;
        on_flow_ = nullptr;
        if (const auto ended = std::exchange(ended_, nullptr)) ended();
    }
    void abandon() override {
        if (!closed_) peer_->close(1011, "too little memory");
    }
    void on_loss(std::function<void(Loss)> handler) override { on_loss_ = std::move(handler); }
    void on_flow(std::function<void(bool)> handler) override {
        if (full_) handler(true);
        on_flow_ = std::move(handler);
    }
    void post(std::function<void()> work) override { peer_->post(std::move(work)); }
    Held hold(size_t n_bytes) override { return share_->add(n_bytes); }
    Held hold_only(size_t n_bytes) override { return share_->resize(n_bytes); }

    void lose(Loss loss) {
        closed_ = closed_ || loss != Loss::shutdown;
        const auto handler = on_loss_;
        if (handler) handler(loss);
    }
    void flow(bool full) {
        full_ = full;
        if (on_flow_) on_flow_(full);
    }

 private:
    std::shared_ptr<WebSocketPeer> peer_;
    const std::shared_ptr<MemoryShare> share_;  // of the message, which has been read
    std::function<void()> ended_;
    std::function<void(Loss)> on_loss_;
    std::function<void(bool)> on_flow_;
    bool closed_ = false, full_ = false;
};

class StreamSocket final : public WebSocketListener, public std::enable_shared_from_this<StreamSocket> {
 public:
    StreamSocket(ServerContext& server, std::shared_ptr<WebSocketPeer> peer, std::string key)
        : server_(server), peer_(std::move(peer)), key_(std::move(key)) {}

    std::function<void()> read(const std::string& text, const WorkerTurn& turn,
                               const std::shared_ptr<MemoryShare>& share) override {
        auto m = std::make_shared<Message>();
        m->share = share;
        try {
            parse(text, turn, *m);
        } catch (const TakesLong&) {
            throw;
        } catch (...) {
            m->error = current_error(server_);
        }
        return [self = shared_from_this(), m] { self->act(*m); };
    }
    void flow(bool full) override {
        full_ = full;
        for (const auto& [id, running] : running_) running.exchange->flow(full);
    }
    void closed() override {
        const auto running = std::move(running_);
        running_.clear();
        for (const auto& [id, r] : running) r.exchange->lose(Loss::gone);
        peer_.reset();
    }
    void drain() override {
        ending_ = true;
        if (running_.empty()) peer_->close(1001, "the server ends");
    }
    void cut() override {
        drain();
        const auto running = running_;
        for (const auto& [id, r] : running) r.exchange->lose(Loss::shutdown);
    }

 private:
    struct Message {
        std::string id, type;
        std::shared_ptr<MemoryShare> share;
        std::optional<JobSpec> job;
        std::optional<ApiError> error;
    };
    struct Running {
        std::shared_ptr<Answer> answer;
        std::shared_ptr<SocketExchange> exchange;
    };

    void parse(const std::string& text, const WorkerTurn& turn, Message& m) const;
    void act(Message& m);
    void start(const Message& m, JobSpec job);
    void refuse(const std::string& id, const ApiError& error);
    void ended(const std::string& id);

    ServerContext& server_;
    std::shared_ptr<WebSocketPeer> peer_;
    const std::string key_;
    std::unordered_map<std::string, Running> running_;
    bool ending_ = false, full_ = false;
};

// On a worker: nothing of the socket is touched.
void StreamSocket::parse(const std::string& text, const WorkerTurn& turn, Message& m) const {
    constexpr size_t short_text = size_t{64} << 10;
    if (!turn.may_take_long && text.size() > short_text) throw TakesLong{};
    Json body;
    require(m.share->add(json_bytes(text)));
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
    std::vector<std::string> warnings = check_body(body, generate_schema, server_.strict);
    m.job = make_question_job(server_, body, key_, turn, std::move(warnings));
}

void StreamSocket::act(Message& m) {
    if (!peer_) return;
    try {
        if (m.error) throw RequestError(*m.error);
        if (m.type == "ping") return peer_->send(to_string(Json{{"type", "pong"}, {"id", m.id}}));
        const auto known = running_.find(m.id);
        if (m.type == "generate") {
            if (known != running_.end()) {
                throw bad_request("invalid_value", "id", "a request with this id is running");
            }
            return start(m, std::move(*m.job));
        }
        if (known == running_.end()) {
            throw bad_request("invalid_value", "id", "no request with this id is running");
        }
        known->second.answer->cancel();
    } catch (...) {
        refuse(m.id, current_error(server_));
    }
}

void StreamSocket::start(const Message& m, JobSpec job) {
    const std::string& id = m.id;
    if (ending_ || running_.size() >= max_jobs_per_socket) {
        throw RequestError({.status = 503,
                            .code = ending_ ? "shutting_down" : "server_overloaded",
                            .message = "no more requests on this socket now",
                            .retry_after = 1});
    }
    const auto exchange = std::make_shared<SocketExchange>(peer_, m.share, [weak = weak_from_this(), id] {
        if (const auto self = weak.lock()) self->ended(id);
    });
    exchange->flow(full_);
    const auto answer = make_socket_answer(server_, exchange, std::move(job), id);
    answer->start();
    running_[id] = {answer, exchange};
}

void StreamSocket::ended(const std::string& id) {
    running_.erase(id);
    if (ending_ && running_.empty() && peer_) peer_->close(1001, "the server ends");
}

void StreamSocket::refuse(const std::string& id, const ApiError& error) {
    ++server_.metrics.received;
    ++server_.metrics.rejected;
    Json event = error_body(error);
    event["type"] = "error";
    event["id"] = id;
    event["status"] = error.status;
    peer_->send(to_string(event));
}

}  // namespace

std::shared_ptr<WebSocketListener> open_stream(ServerContext& server, std::shared_ptr<WebSocketPeer> peer,
                                               std::string key) {
    return std::make_shared<StreamSocket>(server, std::move(peer), std::move(key));
}

}  // namespace smelt
