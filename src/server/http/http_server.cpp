// Listening, signals, draining. What a connection does stands in http_session.cpp.
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_reserve.h"
#include "server/http/connections.h"
#include "server/http/signals.h"

namespace smelt {

namespace {

using boost::system::error_code;

// When no file descriptor or no memory is left: no busy loop until clients leave.
constexpr std::chrono::milliseconds accept_pause{100};

void log_failure(std::exception_ptr failure) {
    try {
        if (failure) std::rethrow_exception(failure);
    } catch (const std::exception& e) {
        spdlog::error("a connection failed: {}", e.what());
    } catch (...) {
        spdlog::error("a connection failed");
    }
}

void serve(const std::shared_ptr<ServerCore>& core, tcp::socket socket) {
    if (core->connections.size() + core->n_handshakes >= core->options.limits.max_connections) return;
    error_code ignored;
    socket.set_option(tcp::no_delay(true), ignored);
    socket.non_blocking(true, ignored);
    // The system would hold megabytes for a client that does not read, beyond what is counted here.
    const auto held = static_cast<int>(core->options.limits.max_buffered_bytes);
    socket.set_option(tcp::socket::send_buffer_size(held), ignored);
    if (core->tls) {
        asio::co_spawn(core->io, serve_tls(core, std::move(socket)), log_failure);
    } else {
        std::string peer = address_of(socket);
        asio::co_spawn(core->io, serve_http(core, std::move(socket), std::move(peer)), log_failure);
    }
}

// The core outlives what its io_context holds; what held it in turn would keep both for ever.
asio::awaitable<void> accept_clients(ServerCore& core) {
    asio::steady_timer pause(core.io);
    error_code error;
    while (core.acceptor.is_open()) {
        try {
            if (error) {
                pause.expires_after(accept_pause);
                co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            }
            tcp::socket socket =
                co_await core.acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
            if (!error) serve(core.shared_from_this(), std::move(socket));
        } catch (const std::bad_alloc&) {
            std::this_thread::sleep_for(accept_pause / 10);  // where not even the pause can be had
            error = asio::error::no_memory;
        }
    }
}

asio::awaitable<void> repeat(ServerCore& core, std::chrono::milliseconds period, std::function<void()> work) {
    asio::steady_timer timer(core.io);
    while (!core.draining) {
        error_code error;
        timer.expires_after(period);
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
        asio::post(core.workers.context(), [work] {
            try {
                work();
            } catch (const std::exception& e) {
                spdlog::error("{}", e.what());
            }
        });
    }
}

}  // namespace

const std::string* HttpRequest::header(std::string_view name) const {
    for (const auto& [key, value] : headers) {
        if (key == name) return &value;
    }
    return nullptr;
}

size_t HttpRequest::count(std::string_view name) const {
    size_t n = 0;
    for (const auto& [key, value] : headers) n += key == name;
    return n;
}

Workers::Workers(int n) {
    try {
        for (int i = 0; i < n; ++i) threads_.emplace_back([this] { work(); });
    } catch (const std::exception& e) {
        context_.stop();
        join();
        throw Error("the server cannot start {} threads: {}", n, e.what());
    }
}

void Workers::join() {
    guard_.reset();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
}

void Workers::work() {
    while (true) {
        try {
            context_.run();
            return;
        } catch (const std::exception& e) {
            spdlog::error("a worker goes on after: {}", e.what());
        }
    }
}

void ServerCore::add(Connection* c) {
    connections.insert(c);
    n_connections = connections.size();
}

void ServerCore::remove(Connection* c) {
    connections.erase(c);
    n_connections = connections.size();
    stop_when_done();
}

void ServerCore::stop_when_done() {
    if (draining && connections.empty() && n_relays == 0) io.stop();
}

void ServerCore::replace(Connection* before, Connection* after) {
    connections.erase(before);
    connections.insert(after);
}

void ServerCore::cut_connections() {
    const std::vector<Connection*> all(connections.begin(), connections.end());
    for (Connection* c : all) {
        if (connections.contains(c)) c->cut();
    }
    drain_timer.expires_after(farewell);
    drain_timer.async_wait([this](error_code error) {
        if (!error) io.stop();
    });
}

void ServerCore::begin_drain() {
    if (draining) return;
    draining = true;
    error_code ignored;
    acceptor.close(ignored);
    spdlog::info("finishing {} connections, no new ones; a second signal ends at once", connections.size());
    stop_when_done();
    if (io.stopped()) return;
    drain_timer.expires_after(options.limits.drain_timeout);
    drain_timer.async_wait([this](error_code error) {
        if (!error) cut_connections();
    });
    const std::vector<Connection*> all(connections.begin(), connections.end());
    for (Connection* c : all) {
        if (connections.contains(c)) c->drain();
    }
}

struct HttpServer::Impl : ServerCore {
    using ServerCore::ServerCore;
};

HttpServer::HttpServer(const HttpOptions& options) : impl_(std::make_shared<Impl>(options)) {
    const auto fail = [&](const error_code& e) {
        throw Error("cannot listen on {}:{}: {}", options.host, options.port, e.message());
    };
    impl_->tls = load_tls(options.tls);
    error_code error;
    tcp::resolver resolver(impl_->io);
    const auto found = resolver.resolve(options.host, std::to_string(options.port),
                                        tcp::resolver::passive | tcp::resolver::numeric_service, error);
    if (error || found.empty()) fail(error);
    const tcp::endpoint endpoint = found.begin()->endpoint();
    tcp::acceptor& acceptor = impl_->acceptor;
    if (acceptor.open(endpoint.protocol(), error); error) fail(error);
    if (acceptor.set_option(tcp::acceptor::reuse_address(true), error); error) fail(error);
    if (acceptor.bind(endpoint, error); error) fail(error);
    if (acceptor.listen(tcp::acceptor::max_listen_connections, error); error) fail(error);
}

HttpServer::~HttpServer() {
    impl_->io.shutdown();
}

uint16_t HttpServer::port() const {
    error_code error;
    return impl_->acceptor.local_endpoint(error).port();
}

size_t HttpServer::n_connections() const {
    return impl_->n_connections;
}

int HttpServer::run(HttpHandler& handler) {
    impl_->handler = &handler;
    std::optional<Signals> signals;
    if (impl_->options.handle_signals) signals.emplace(*impl_);
    asio::co_spawn(impl_->io, accept_clients(*impl_), log_failure);
    every(std::chrono::seconds(1), [core = impl_.get()] {
        if (core->memory.freed_much()) return_free_memory();
    });
    while (!impl_->io.stopped()) {
        try {
            impl_->io.run();
        } catch (const std::exception& e) {
            spdlog::error("the I/O thread goes on after: {}", e.what());
        }
    }
    // A worker that is busy may take its time; the signals' thread ends the process if it takes too long.
    impl_->workers.join();
    impl_->long_workers.join();
    return impl_->exit_code;
}

void HttpServer::stop() {
    asio::post(impl_->io, [core = impl_.get()] { core->begin_drain(); });
}

void HttpServer::post(std::function<void()> work) {
    asio::post(impl_->io, std::move(work));
}

void HttpServer::every(std::chrono::milliseconds period, std::function<void()> work) {
    asio::co_spawn(impl_->io, repeat(*impl_, period, std::move(work)), log_failure);
}

}  // namespace smelt
