// HTTP and WebSocket as the rest of the server sees them: a request, and a place for its answer. Knows no
// dialect; http_server.cpp is the only part that knows sockets.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace smelt {

class MemoryShare;

// Whether so much may be held: not now, because others hold so much, or never.
enum class Held { yes, later, never };

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
    std::string id;  // of x-request-id
    std::string method, path, query;
    HttpHeaders headers;  // names in lower case
    std::string body;
    bool wants_websocket = false;

    // The first with this name (lower case); null where there is none.
    const std::string* header(std::string_view name) const;
    size_t count(std::string_view name) const;
};

struct HttpAnswer {
    int status = 200;
    std::string body = {};
    std::string type = "application/json; charset=utf-8";
    HttpHeaders headers = {};
};

// Why nobody will read the rest of an answer.
enum class Loss {
    gone,      // the client closed the connection
    slow,      // it does not read: the write deadline was met
    shutdown,  // the server ends; what is written now still goes out
};

// The answer to one request. All functions may be called from any thread; what they do happens on the I/O
// thread, in order. Every exchange must get send(), or begin_stream() and end().
class Exchange {
 public:
    virtual ~Exchange() = default;

    virtual void send(HttpAnswer answer) = 0;
    virtual void begin_stream(HttpAnswer head) = 0;  // its body is ignored
    virtual void write(std::string bytes) = 0;
    virtual void end() = 0;
    virtual void abandon() = 0;  // on the I/O thread: the connection closes, as it is

    // Called on the I/O thread, at most once for each kind of loss; at once where it has happened already.
    virtual void on_loss(std::function<void(Loss)> handler) = 0;
    // Called on the I/O thread when more than max_buffered_bytes wait for the client (true), and when half of
    // them are left (false). What writes shall pause meanwhile; what it had under way still goes out.
    virtual void on_flow(std::function<void(bool full)> handler) = 0;
    virtual void post(std::function<void()> work) = 0;  // runs on the I/O thread
    // So many bytes more are held for this request, until its answer has been sent and nobody holds the
    // exchange. Unless that is beyond what all requests, or those of this client, may hold.
    virtual Held hold(size_t n_bytes) = 0;
    virtual Held hold_only(size_t n_bytes) = 0;  // these and no others
};

// The other end of a WebSocket, from any thread as well.
class WebSocketPeer {
 public:
    virtual ~WebSocketPeer() = default;

    virtual void send(std::string text) = 0;
    virtual void close(int code, std::string reason) = 0;
    virtual void post(std::function<void()> work) = 0;
};

// What a handler may do with the thread that it is called on.
struct WorkerTurn {
    bool may_take_long = false;  // else it throws TakesLong instead, and is called again where it may
    // Set when nobody waits for the answer any more; null: somebody always does.
    const std::atomic<bool>* nobody_waits = nullptr;
    std::string client = {};  // who asks: a key or an address

    bool is_over() const { return nobody_waits != nullptr && *nobody_waits; }
};
struct TakesLong {};

// What a WebSocket's messages are for. Called on the I/O thread, but for read().
class WebSocketListener {
 public:
    virtual ~WebSocketListener() = default;

    // On a worker, one message at a time, whose bytes `share` counts: does what takes long and returns the
    // rest, which runs on the I/O thread.
    virtual std::function<void()> read(const std::string& text, const WorkerTurn& turn,
                                       const std::shared_ptr<MemoryShare>& share) = 0;
    virtual void flow(bool full) = 0;  // as Exchange::on_flow()
    virtual void closed() = 0;         // the last call
    virtual void drain() = 0;          // no new work; close when what runs is done
    virtual void cut() = 0;            // end what runs
};

class HttpHandler {
 public:
    virtual ~HttpHandler() = default;

    // Before the body is read, on the I/O thread. An answer here is final and the body is never read.
    virtual std::optional<HttpAnswer> refuse(const HttpRequest& head) = 0;
    // Short work may run on the I/O thread itself.
    virtual bool is_short(const HttpRequest& request) = 0;
    // On the I/O thread when short, else on a worker. What it threw TakesLong for it is asked again.
    virtual void handle(const HttpRequest& request, const std::shared_ptr<Exchange>& exchange,
                        const WorkerTurn& turn) = 0;
    // Who asks, where the request says it: work that takes long is done by turns. Empty: it does not.
    virtual std::string client_of(const HttpRequest& head) = 0;
    virtual std::shared_ptr<WebSocketListener> open_websocket(const HttpRequest& head,
                                                              std::shared_ptr<WebSocketPeer> peer) = 0;
    // An answer for what HTTP itself refuses: 400, 408, 413, ...
    virtual HttpAnswer error(int status, std::string_view code, std::string_view message) = 0;
    // Headers for every answer to this request, e.g. of CORS.
    virtual HttpHeaders common_headers(const HttpRequest& head) = 0;
};

struct HttpLimits {
    size_t max_header_bytes = size_t{16} << 10;
    size_t max_header_fields = 100;
    size_t max_target_bytes = size_t{8} << 10;
    size_t max_body_bytes = size_t{16} << 20;
    size_t max_memory_bytes = size_t{256} << 20;    // that requests and answers hold; half of it for a client
    size_t max_buffered_bytes = size_t{256} << 10;  // of a stream whose client does not read
    size_t max_connections = 4096;
    std::chrono::milliseconds header_timeout{10'000};
    std::chrono::milliseconds body_timeout{30'000};
    std::chrono::milliseconds idle_timeout{60'000};
    std::chrono::milliseconds write_timeout{30'000};
    std::chrono::milliseconds drain_timeout{30'000};
};

struct TlsFiles {
    std::string certificate = {}, key = {};  // PEM; empty: no TLS
};

struct HttpOptions {
    std::string host = "127.0.0.1";
    uint16_t port = 8080;  // 0: a free one
    int n_workers = 4;
    bool handle_signals = true;  // SIGINT and SIGTERM drain, a second one ends at once
    HttpLimits limits = {};
    TlsFiles tls = {};
};

class HttpServer {
 public:
    // Binds. Throws Error naming the address, or the certificate, and why not.
    explicit HttpServer(const HttpOptions& options);
    ~HttpServer();

    uint16_t port() const;
    size_t n_connections() const;  // from any thread

    // Serves until stopped and returns the exit code: 0, or 128 + the signal that asked twice.
    int run(HttpHandler& handler);
    void stop();  // as the first signal does; from any thread
    // Runs on the I/O thread, while the server runs. From any thread.
    void post(std::function<void()> work);

    // Runs on a worker again and again while the server runs. Before run().
    void every(std::chrono::milliseconds period, std::function<void()> work);

 private:
    struct Impl;
    std::shared_ptr<Impl> impl_;
};

}  // namespace smelt
