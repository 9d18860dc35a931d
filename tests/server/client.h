// A raw HTTP client over loopback, so that tests can say exactly which bytes are sent and when; and a server
// process in the test's own threads.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "sanitizer.h"
#include "server/api_server.h"

namespace smelt {

struct Reply {
    int status = 0;  // 0: the connection closed without an answer
    std::string head, body;

    std::string header(const std::string& name) const {
        const size_t at = head.find(fmt::format("\r\n{}: ", name));
        if (at == std::string::npos) return "";
        const size_t start = at + name.size() + 4;
        return head.substr(start, head.find("\r\n", start) - start);
    }
    Json json() const { return Json::parse(body); }
    std::string code() const {
        return json().at("error").at("code").is_null() ? "" : json()["error"]["code"];
    }
    std::string param() const {
        return json().at("error").at("param").is_null() ? "" : json()["error"]["param"];
    }
};

class Client {
 public:
    explicit Client(uint16_t port, int receive_buffer = 0) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
        if (receive_buffer > 0)
            ::setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
            throw std::runtime_error("cannot connect");
        }
    }
    ~Client() { close(); }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    void finish_sending() { ::shutdown(fd_, SHUT_WR); }

    // False: the server closed the connection.
    bool send(std::string_view bytes) {
        while (!bytes.empty()) {
            const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (n <= 0) return false;
            bytes.remove_prefix(static_cast<size_t>(n));
        }
        return true;
    }

    // More bytes into the buffer; false at the end of the connection or after `seconds` without one.
    bool receive(double seconds = 30) {
        pollfd p{fd_, POLLIN, 0};
        if (::poll(&p, 1, static_cast<int>(seconds * patience * 1000)) <= 0) return false;
        char bytes[65536];
        const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
        if (n <= 0) return false;
        buffer_.append(bytes, static_cast<size_t>(n));
        return true;
    }
    bool receive_until(std::string_view text, double seconds = 30) {
        while (buffer_.find(text) == std::string::npos) {
            if (!receive(seconds)) return false;
        }
        return true;
    }
    bool closed_by_server(double seconds) {
        const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds * patience);
        while (std::chrono::steady_clock::now() < end) {
            pollfd p{fd_, POLLIN, 0};
            if (::poll(&p, 1, 50) <= 0) continue;
            char bytes[4096];
            if (::recv(fd_, bytes, sizeof bytes, 0) <= 0) return true;
        }
        return false;
    }
    std::string& buffer() { return buffer_; }

    // One answer: by length, by chunks, or to the end of the connection.
    Reply read_reply(double seconds = 30) {
        Reply r;
        if (!receive_until("\r\n\r\n", seconds)) return r;
        const size_t end = buffer_.find("\r\n\r\n");
        r.head = buffer_.substr(0, end + 2);
        buffer_.erase(0, end + 4);
        r.status = std::stoi(r.head.substr(9, 3));
        if (r.header("transfer-encoding") == "chunked") {
            while (true) {
                if (!receive_until("\r\n", seconds)) return r;
                const size_t n = std::stoul(buffer_, nullptr, 16), start = buffer_.find("\r\n") + 2;
                while (buffer_.size() < start + n + 2) {
                    if (!receive(seconds)) return r;
                }
                r.body += buffer_.substr(start, n);
                buffer_.erase(0, start + n + 2);
                if (n == 0) return r;
            }
        }
        const std::string length = r.header("content-length");
        const size_t n = length.empty() ? 0 : std::stoul(length);
        while (buffer_.size() < n) {
            if (!receive(seconds)) break;
        }
        r.body = buffer_.substr(0, n);
        buffer_.erase(0, n);
        return r;
    }

    static std::string request(const std::string& method, const std::string& path,
                               const std::string& body = "",
                               const std::string& headers = "Host: localhost\r\n") {
        const std::string length = method == "POST" ? fmt::format("Content-Length: {}\r\n", body.size()) : "";
        return fmt::format("{} {} HTTP/1.1\r\n{}{}\r\n{}", method, path, headers, length, body);
    }
    Reply ask(const std::string& method, const std::string& path, const std::string& body = "",
              const std::string& headers = "Host: localhost\r\n") {
        send(request(method, path, body, headers));
        return read_reply();
    }

 private:
    int fd_;
    std::string buffer_;
};

struct TestServerOptions {
    HttpLimits limits = {};
    AccessOptions access = {};
    bool strict = false;
    int max_queue = 256, max_seqs = 32;
    std::vector<std::string> models = {"demo-5m"};
    std::vector<ModelSpec> specs = {};  // further models
    int64_t kv_tokens = 16384;
    double step_timeout = 120;
    bool shared_prefix_cache = false;
    TlsFiles tls = {};
    std::function<std::unique_ptr<ModelRunner>(std::unique_ptr<ModelRunner>)> wrap_runner = {};
    bool any_name = false;
    ResponseStore::Options responses = {};
    std::function<void(const AccessRecord&)> access_log = {};
    DraftOptions drafts = {};
    std::string draft_model = {};
};

inline std::string bundled(const std::string& name) {
    return std::string(SMELT_MODELS) + "/" + name;
}

inline ModelSet::Options set_options(const TestServerOptions& o) {
    ModelSet::Options set;
    set.open.kv_tokens = o.kv_tokens;
    set.open.engine.scheduler.max_seqs = o.max_seqs;
    set.open.engine.max_queue = o.max_queue;
    set.open.wrap_runner = o.wrap_runner;
    set.open.engine.drafts = o.drafts;
    if (!o.draft_model.empty()) set.open.draft_model = bundled(o.draft_model);
    set.step_timeout = o.step_timeout;
    set.any_name = o.any_name;
    return set;
}

class TestServer {
 public:
    explicit TestServer(const TestServerOptions& o = {})
        : http_({.port = 0, .handle_signals = false, .limits = o.limits, .tls = o.tls}),
          models_(set_options(o)),
          context_{.models = models_,
                   .access = o.access,
                   .shared_prefix_cache = o.shared_prefix_cache,
                   .strict = o.strict,
                   .version = "test",
                   .n_connections = [this] { return http_.n_connections(); },
                   .responses = std::make_shared<ResponseStore>(o.responses),
                   .access_log = o.access_log},
          server_(context_) {
        for (const std::string& name : o.models) models_.load(name, bundled(name));
        for (const ModelSpec& spec : o.specs) models_.load(spec);
        http_.every(std::chrono::milliseconds(20), [this] { models_.unload_idle(); });
        thread_ = std::thread([this] { code_ = http_.run(server_); });
    }
    ~TestServer() {
        stop();
        // Whatever a test did: no bug was counted and every request is accounted for.
        EXPECT_EQ(context_.metrics.internal_errors.load(), 0u);
        uint64_t accepted = 0, ended = 0;
        for (const auto& m : models_.all()) {
            const std::lock_guard lock(m->metrics.mutex);
            accepted += m->metrics.accepted;
            ended += m->metrics.completed + m->metrics.failed + m->metrics.cancelled;
        }
        EXPECT_EQ(accepted, ended);
        EXPECT_EQ(context_.metrics.received.load(),
                  context_.metrics.accepted.load() + context_.metrics.rejected.load());
        // Less where a model was unloaded.
        EXPECT_LE(accepted, context_.metrics.accepted.load());
    }
    int stop() {
        if (thread_.joinable()) {
            http_.stop();
            thread_.join();
        }
        return code_;
    }
    void begin_stop() { http_.stop(); }

    uint16_t port() const { return port_; }
    ModelSet& models() { return models_; }
    ServerContext& context() { return context_; }
    ServedModel& model() { return *models_.all().front(); }
    size_t n_connections() const { return http_.n_connections(); }

    // Until nothing runs and nothing waits, or five seconds (and patience) have passed.
    bool becomes_idle() {
        for (int i = 0; i < 500 * patience; ++i) {
            bool idle = true;
            for (const auto& m : models_.all()) {
                const auto loaded = m->loaded();
                const EngineStats s = loaded ? loaded->stats() : EngineStats();
                idle = idle && m->outstanding == 0 && s.n_running == 0 && s.n_queued == 0 &&
                       s.n_used_blocks == 0;
            }
            if (idle) return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
        return false;
    }

 private:
    HttpServer http_;
    uint16_t port_ = http_.port();
    ModelSet models_;
    ServerContext context_;
    ApiServer server_;
    std::thread thread_;
    int code_ = -1;
};

}  // namespace smelt
