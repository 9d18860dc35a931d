// What the socket code shares: the I/O thread's state, and connections as the shutdown sees them. Included by
// the few files that know Asio; no other part of the server may.
#pragma once

#include <algorithm>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <thread>
#include <unordered_set>

#include "server/http/http.h"
#include "server/http/long_workers.h"
#include "server/http/memory_account.h"

namespace smelt {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;

class Connection {
 public:
    virtual ~Connection() = default;
    virtual void drain() = 0;  // closes when nothing is being answered, else afterwards
    virtual void cut() = 0;    // what is being answered ends now
};

// Threads for what takes longer than the I/O thread may.
class Workers {
 public:
    explicit Workers(int n);  // throws Error when the system has no thread for it
    ~Workers() { join(); }
    asio::io_context& context() { return context_; }
    void join();  // when what they were given is done

 private:
    void work();

    asio::io_context context_;
    asio::executor_work_guard<asio::io_context::executor_type> guard_ = asio::make_work_guard(context_);
    std::vector<std::thread> threads_;
};

// After the drain deadline, or a second signal: what is cut may still write its last event.
inline constexpr std::chrono::seconds farewell{2};

struct IoContext : asio::io_context {
    using io_context::io_context;
    // What waits is destroyed. It may hold what the context is a member of: nobody else would end that.
    using execution_context::shutdown;
};

// Of the I/O thread alone, but for n_connections and exit_code.
struct ServerCore : std::enable_shared_from_this<ServerCore> {
    explicit ServerCore(const HttpOptions& o)
        : options(o),
          memory(o.limits.max_memory_bytes),
          workers(o.n_workers),
          long_workers(std::max(1, o.n_workers / 2)) {}

    void add(Connection* c);
    void remove(Connection* c);
    void replace(Connection* before, Connection* after);
    void begin_drain();
    void cut_connections();  // what is being answered ends now
    void stop_when_done();

    const HttpOptions options;
    HttpHandler* handler = nullptr;
    std::unordered_set<Connection*> connections;
    std::atomic<size_t> n_connections = 0;
    size_t n_handshakes = 0;  // of TLS, not connections yet
    size_t n_relays = 0;      // of TLS: bytes of a connection that has ended may still be on their way
    bool draining = false;
    std::atomic<int> exit_code = 0;
    std::unique_ptr<asio::ssl::context> tls;  // null: plain
    MemoryAccount memory;
    Workers workers;
    LongWorkers long_workers;
    IoContext io{1};  // after what its handlers use
    tcp::acceptor acceptor{io};
    asio::steady_timer drain_timer{io};
};

// Counts a connection for as long as it lives.
class Registration {
 public:
    Registration(ServerCore& core, Connection* c) : core_(core), connection_(c) { core_.add(c); }
    ~Registration() { core_.remove(connection_); }
    Registration(const Registration&) = delete;
    Registration& operator=(const Registration&) = delete;

    // The connection speaks another protocol from now on; it is still one.
    void hand_to(Connection* c) {
        core_.replace(connection_, c);
        connection_ = c;
    }

 private:
    ServerCore& core_;
    Connection* connection_;
};

// A deadline for whatever the socket is doing. Not for a socket with deadlines of its own.
class Deadline {
 public:
    Deadline(asio::io_context& io, tcp::socket& socket) : timer_(io), socket_(socket) {}

    // `owner` keeps the socket alive while the clock runs.
    void arm(std::chrono::milliseconds after, std::weak_ptr<void> owner) {
        expired_ = false;
        timer_.expires_after(after);
        timer_.async_wait([this, n = ++armed_, owner](boost::system::error_code error) {
            const auto alive = owner.lock();
            if (error || !alive || n != armed_) return;
            expired_ = true;
            socket_.cancel(error);
        });
    }
    void disarm() {
        ++armed_;
        timer_.cancel();
    }
    bool expired() const { return expired_; }

 private:
    asio::steady_timer timer_;
    tcp::socket& socket_;
    uint64_t armed_ = 0;
    bool expired_ = false;
};

// Takes TLS off and hands what is inside to serve_http().
asio::awaitable<void> serve_tls(std::shared_ptr<ServerCore> core, tcp::socket socket);
std::unique_ptr<asio::ssl::context> load_tls(const TlsFiles& files);

// `peer`: the address at the other end.
asio::awaitable<void> serve_http(std::shared_ptr<ServerCore> core, tcp::socket socket, std::string peer);
std::string address_of(const tcp::socket& socket);

}  // namespace smelt
