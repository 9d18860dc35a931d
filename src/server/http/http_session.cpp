// One HTTP connection: reads a request within its limits and deadlines, hands it on, writes the answer, and
// meanwhile watches whether the client is still there.
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/beast/websocket/rfc6455.hpp>
#include <random>
#include <thread>

#include "base/ascii.h"
#include "base/log.h"
#include "server/http/http_exchange.h"
#include "server/http/websocket_session.h"

namespace smelt {

namespace {

namespace http = boost::beast::http;
using boost::system::error_code;
using Parser = http::request_parser<http::string_body>;

constexpr size_t max_framing_bytes = size_t{64} << 10;  // of chunk heads; and what may be sent ahead
constexpr std::chrono::seconds linger{2};               // for a client that is still sending what was refused
// What must reach the client within a write deadline: a client slower than this in that time is cut, one that
// reads slowly but steadily is not.
constexpr size_t write_piece = size_t{64} << 10;

constexpr std::string_view continue_line = "HTTP/1.1 100 Continue\r\n\r\n";

std::string new_request_id() {
    thread_local std::mt19937_64 random{std::random_device{}()};
    return fmt::format("req_{:016x}{:016x}", random(), random());
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = static_cast<char>(c | 32);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// %41 -> A; what is no such escape stays as it is.
std::string unescape(std::string_view text) {
    std::string s;
    for (size_t i = 0; i < text.size(); ++i) {
        const bool escape = text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
                            hex_digit(text[i + 2]) >= 0;
        if (!escape) {
            s += text[i];
            continue;
        }
        s += static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
        i += 2;
    }
    return s;
}

// Clients put a base URL that ends in a slash before their path: //v1/models, /v1//models, /v1/models/.
std::string without_empty_parts(std::string_view path) {
    std::string s;
    for (const char c : path) {
        if (c != '/' || s.empty() || s.back() != '/') s += c;
    }
    if (s.size() > 1 && s.ends_with('/')) s.pop_back();
    return s;
}

HttpRequest make_head(const Parser& parser) {
    const auto& message = parser.get();
    HttpRequest r;
    r.id = new_request_id();
    r.method = std::string(message.method_string());
    std::string_view target(message.target().data(), message.target().size());
    if (target.starts_with("http://")) {
        const size_t slash = target.find('/', 7);
        target = slash == std::string_view::npos ? "/" : target.substr(slash);
    }
    const size_t question = target.find('?');
    r.path = without_empty_parts(unescape(target.substr(0, question)));
    if (question != std::string_view::npos) r.query = std::string(target.substr(question + 1));
    for (const auto& field : message) {
        r.headers.emplace_back(ascii_lower({field.name_string().data(), field.name_string().size()}),
                               std::string(field.value()));
    }
    r.wants_websocket = boost::beast::websocket::is_upgrade(message);
    return r;
}

// Without memory for an error, the client gets it a little later.
void fail(HttpExchange& exchange, bool no_memory) {
    constexpr int max_tries = 1000;
    for (int i = 0; i < max_tries; ++i) {
        try {
            return exchange.fail(no_memory);
        } catch (const std::bad_alloc&) {
            std::this_thread::sleep_for(std::chrono::milliseconds(10));
        }
    }
}

struct Refused {
    int status;
    const char* code;
    std::string message;
};

class HttpSession final : public Connection, public std::enable_shared_from_this<HttpSession> {
 public:
    HttpSession(std::shared_ptr<ServerCore> core, tcp::socket socket, std::string peer)
        : core_(std::move(core)),
          socket_(std::move(socket)),
          peer_(std::move(peer)),
          deadline_(core_->io, socket_) {}

    asio::awaitable<void> run() {
        while (socket_.is_open() && !core_->draining) {
            const bool go_on = co_await serve_one();
            if (!go_on) break;
        }
        close();
    }

    void drain() override {
        if (!exchange_) close();
    }
    void cut() override {
        if (!exchange_) return close();
        exchange_->lose(Loss::shutdown);
    }

 private:
    const HttpLimits& limits() const { return core_->options.limits; }

    void close() {
        error_code ignored;
        socket_.close(ignored);
    }
    void arm(std::chrono::milliseconds after) { deadline_.arm(after, weak_from_this()); }

    asio::awaitable<bool> serve_one();
    asio::awaitable<bool> wait_for_bytes();
    asio::awaitable<void> read_body(Parser& parser, MemoryShare& share, error_code& error);
    asio::awaitable<bool> write_answer();
    asio::awaitable<void> refuse(const Refused& why);
    asio::awaitable<void> discard_input();
    Refused explain(const error_code& error, const Parser& parser) const;
    std::optional<Refused> check_head(const Parser& parser) const;
    void hand_over(HttpRequest request, const std::string& client);
    void watch(std::shared_ptr<HttpExchange> exchange);
    void watch_half_closed(std::shared_ptr<HttpExchange> exchange, int n_checks);

    std::shared_ptr<ServerCore> core_;
    Registration registration_{*core_, this};
    tcp::socket socket_;
    const std::string peer_;
    Deadline deadline_;
    asio::steady_timer half_closed_timer_{core_->io};
    boost::beast::flat_buffer buffer_{max_framing_bytes};
    std::shared_ptr<HttpExchange> exchange_;  // while a request is being answered
};

asio::awaitable<bool> HttpSession::wait_for_bytes() {
    if (buffer_.size() > 0) co_return true;
    arm(limits().idle_timeout);
    error_code error;
    const size_t n = co_await socket_.async_read_some(buffer_.prepare(4096),
                                                      asio::redirect_error(asio::use_awaitable, error));
    buffer_.commit(n);
    deadline_.disarm();
    co_return !error;
}

Refused HttpSession::explain(const error_code& error, const Parser& parser) const {
    if (deadline_.expired()) return {408, "request_timeout", "the request did not arrive in time"};
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        const bool in_target = parser.get().method_string().empty();
        if (in_target) {
            return {414, "uri_too_long",
                    fmt::format("the URI is longer than {} bytes", limits().max_target_bytes)};
        }
        return {431, "headers_too_large",
                fmt::format("more than {} bytes of headers", limits().max_header_bytes)};
    }
    if (error == http::error::body_limit) {
        return {413, "request_too_large",
                fmt::format("the body is larger than {} bytes", limits().max_body_bytes)};
    }
    return {400, "bad_http", fmt::format("not a valid HTTP request: {}", error.message())};
}

// How a body ends must be certain: what is left over would be read as the next request. "chunked" alone is,
// of what RFC 9112 allows.
std::optional<Refused> check_framing(const http::request<http::string_body>& message) {
    const auto [first, last] = message.equal_range(http::field::transfer_encoding);
    if (first == last) return std::nullopt;
    const std::string coding = ascii_lower({first->value().data(), first->value().size()});
    if (std::next(first) != last || coding.find(',') != std::string::npos) {
        return Refused{400, "bad_http", "expected one Transfer-Encoding, chunked"};
    }
    if (coding != "chunked") {
        return Refused{501, "not_implemented", "expected Transfer-Encoding chunked, found another"};
    }
    if (message.version() < 11) return Refused{400, "bad_http", "Transfer-Encoding in a request of HTTP/1.0"};
    if (message.find(http::field::content_length) != message.end()) {
        return Refused{400, "bad_http", "expected Content-Length or Transfer-Encoding, found both"};
    }
    return std::nullopt;
}

// What RFC 6455 wants of a client's handshake; Beast's own refusals are not in the API's form.
std::optional<Refused> check_handshake(const http::request<http::string_body>& message) {
    const std::string_view version = message[http::field::sec_websocket_version];
    if (version != "13") return Refused{426, "bad_http", "expected Sec-WebSocket-Version 13"};
    constexpr size_t key_length = 24;  // 16 bytes in base64
    const std::string_view key = message[http::field::sec_websocket_key];
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const bool is_key = key.size() == key_length && key.ends_with("==") &&
                        key.substr(0, key_length - 2).find_first_not_of(digits) == std::string_view::npos;
    if (!is_key) return Refused{400, "bad_http", "expected 16 bytes in base64 as Sec-WebSocket-Key"};
    return std::nullopt;
}

std::optional<Refused> HttpSession::check_head(const Parser& parser) const {
    const auto& message = parser.get();
    const auto count = [&](http::field f) {
        const auto [first, last] = message.equal_range(f);
        return std::distance(first, last);
    };
    if (message.target().size() > limits().max_target_bytes) {
        return Refused{414, "uri_too_long",
                       fmt::format("the URI is longer than {} bytes", limits().max_target_bytes)};
    }
    const auto n_fields = std::distance(message.begin(), message.end());
    if (static_cast<size_t>(n_fields) > limits().max_header_fields) {
        return Refused{
            431, "headers_too_large",
            fmt::format("{} header fields, at most {} are accepted", n_fields, limits().max_header_fields)};
    }
    if (message.version() >= 11 && count(http::field::host) != 1) {
        return Refused{400, "bad_http",
                       fmt::format("expected one Host header, found {}", count(http::field::host))};
    }
    if (count(http::field::content_length) > 1)
        return Refused{400, "bad_http", "more than one Content-Length"};
    if (const auto bad = check_framing(message)) return bad;
    if (message.target().empty() ||
        (message.target()[0] != '/' && !message.target().starts_with("http://"))) {
        return Refused{400, "bad_http", "the request target must begin with /"};
    }
    if (message.find(http::field::content_encoding) != message.end()) {
        return Refused{415, "unsupported_media_type", "compressed bodies are not accepted"};
    }
    return std::nullopt;
}

asio::awaitable<void> HttpSession::read_body(Parser& parser, MemoryShare& share, error_code& error) {
    arm(limits().body_timeout);
    const auto expect = parser.get().find(http::field::expect);
    if (expect != parser.get().end() && !parser.is_done()) {
        co_await asio::async_write(socket_, asio::buffer(continue_line),
                                   asio::redirect_error(asio::use_awaitable, error));
    }
    size_t total = 0;
    while (!error && !parser.is_done()) {
        total += co_await http::async_read_some(socket_, buffer_, parser,
                                                asio::redirect_error(asio::use_awaitable, error));
        if (total > limits().max_body_bytes + max_framing_bytes) error = http::error::body_limit;
        if (error) break;
        const Held held = share.resize(parser.get().body().capacity());
        if (held == Held::never) error = http::error::body_limit;
        if (held == Held::later) error = asio::error::no_memory;
    }
}

// False: the connection ends.
asio::awaitable<bool> HttpSession::serve_one() {
    const bool any = co_await wait_for_bytes();
    if (!any) co_return false;

    Parser parser;
    parser.header_limit(static_cast<uint32_t>(limits().max_header_bytes));
    parser.body_limit(limits().max_body_bytes);
    error_code error;
    arm(limits().header_timeout);
    co_await http::async_read_header(socket_, buffer_, parser,
                                     asio::redirect_error(asio::use_awaitable, error));
    if (error) {
        const Refused why = explain(error, parser);
        co_await refuse(why);
        co_return false;
    }
    if (const auto bad = check_head(parser)) {
        co_await refuse(*bad);
        co_return false;
    }

    HttpRequest request = make_head(parser);
    const bool has_body = parser.chunked() || parser.content_length().value_or(0) > 0;
    const HttpHeaders headers = core_->handler->common_headers(request);
    auto refused = core_->handler->refuse(request);
    if (!refused && request.wants_websocket) {
        if (const auto bad = check_handshake(parser.get())) {
            co_await refuse(*bad);
            co_return false;
        }
        deadline_.disarm();
        const auto message = parser.release();
        co_await serve_websocket(core_, std::move(socket_), registration_, message, std::move(request),
                                 peer_);
        co_return false;
    }
    const bool keep_alive = parser.get().keep_alive() && !(refused && has_body) && !core_->draining;
    HttpExchange::About about{.id = request.id,
                              .headers = headers,
                              .keep_alive = keep_alive,
                              .chunked = parser.get().version() >= 11,
                              .with_body = request.method != "HEAD"};
    std::string client = core_->handler->client_of(request);
    auto share = std::make_unique<MemoryShare>(core_->memory, client.empty() ? peer_ : std::move(client));
    if (!refused && has_body) {
        co_await read_body(parser, *share, error);
        if (error) {
            Refused why = explain(error, parser);
            if (error == asio::error::no_memory) {
                why = {503, "server_overloaded", "too many bytes of requests at once"};
            }
            co_await refuse(why);
            co_return false;
        }
        request.body = std::move(parser.get().body());
    }
    deadline_.disarm();

    const std::string who = share->client();
    exchange_ = std::make_shared<HttpExchange>(*core_, std::move(about), std::move(share));
    if (refused) {
        exchange_->send(std::move(*refused));
    } else {
        watch(exchange_);
        hand_over(std::move(request), who);
    }
    const bool written = co_await write_answer();
    const bool go_on = written && exchange_->keep_alive();
    exchange_.reset();
    error_code ignored;
    if (socket_.is_open()) socket_.cancel(ignored);  // the watch
    if (written && has_body && refused) co_await discard_input();
    co_return go_on;
}

void HttpSession::hand_over(HttpRequest request, const std::string& client) {
    // False: it takes long.
    const auto work = [handler = core_->handler, exchange = exchange_, client](const HttpRequest& r,
                                                                               bool may_take_long) {
        try {
            handler->handle(r, exchange,
                            {.may_take_long = may_take_long,
                             .nobody_waits = &exchange->nobody_waits(),
                             .client = client});
        } catch (const TakesLong&) {
            exchange->hold_only(r.body.capacity());
            return false;
        } catch (const std::bad_alloc&) {
            fail(*exchange, true);
        } catch (const std::exception& e) {
            spdlog::error("internal error: {}", e.what());
            fail(*exchange, false);
        }
        return true;
    };
    if (core_->handler->is_short(request)) {
        work(request, true);
        return;
    }
    asio::post(core_->workers.context(), [core = core_, work, client, r = std::move(request)]() mutable {
        if (work(r, false)) return;
        core->long_workers.post(client,
                                [work, r = std::make_shared<HttpRequest>(std::move(r))] { work(*r, true); });
    });
}

// While an answer is made: a closed connection is seen at once; what the client sends ahead is kept, and what
// does not fit waits in the socket.
void HttpSession::watch(std::shared_ptr<HttpExchange> exchange) {
    socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this(), exchange](error_code error) {
        if (error || self->exchange_ != exchange) return;
        const size_t room = max_framing_bytes - self->buffer_.size();
        if (room == 0) return;
        const size_t n = self->socket_.read_some(self->buffer_.prepare(std::min<size_t>(4096, room)), error);
        self->buffer_.commit(n);
        if (error == asio::error::would_block || (!error && n > 0)) return self->watch(exchange);
        if (error == asio::error::eof && exchange->is_chunked()) return self->watch_half_closed(exchange, 0);
        exchange->lose(Loss::gone);
    });
}

// The client has nothing more to say, or it is gone. One that is gone answers whatever reaches it with a
// reset, and until the answer begins a "100 Continue" may be sent to see that; HTTP/1.0 has none.
void HttpSession::watch_half_closed(std::shared_ptr<HttpExchange> exchange, int n_checks) {
    constexpr std::chrono::milliseconds period{100};
    constexpr int probes[] = {0, 2, 10};  // checks with which one is sent
    pollfd p{socket_.native_handle(), 0, 0};
    error_code error;
    if (::poll(&p, 1, 0) > 0 && (p.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0) {
        return exchange->lose(Loss::gone);
    }
    if (!exchange->started() && std::ranges::find(probes, n_checks) != std::end(probes)) {
        socket_.write_some(asio::buffer(continue_line), error);
        if (error && error != asio::error::would_block) return exchange->lose(Loss::gone);
    }
    half_closed_timer_.expires_after(period);
    half_closed_timer_.async_wait([weak = weak_from_this(), exchange, n_checks](error_code e) {
        const auto self = weak.lock();
        if (self && !e && self->exchange_ == exchange && !exchange->ended()) {
            self->watch_half_closed(exchange, n_checks + 1);
        }
    });
}

// True: all of it reached the socket.
asio::awaitable<bool> HttpSession::write_answer() {
    const auto exchange = exchange_;
    while (!exchange->lost()) {
        error_code error;
        if (!exchange->has_output()) {
            if (exchange->ended()) co_return true;
            co_await exchange->wake().async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        const std::string bytes = exchange->take();
        for (size_t at = 0; at < bytes.size() && !exchange->lost(); at += write_piece) {
            const size_t n = std::min(write_piece, bytes.size() - at);
            arm(limits().write_timeout);
            co_await asio::async_write(socket_, asio::buffer(bytes.data() + at, n),
                                       asio::redirect_error(asio::use_awaitable, error));
            deadline_.disarm();
            if (error) exchange->lose(deadline_.expired() ? Loss::slow : Loss::gone);
            if (!error) exchange->sent(n);
        }
    }
    co_return false;
}

// What HTTP itself refuses; the connection ends afterwards.
asio::awaitable<void> HttpSession::refuse(const Refused& why) {
    exchange_ = std::make_shared<HttpExchange>(*core_, HttpExchange::About{.id = new_request_id()});
    exchange_->send(core_->handler->error(why.status, why.code, why.message));
    const bool written = co_await write_answer();
    exchange_.reset();
    if (written) co_await discard_input();
}

// A connection closed with unread input is reset, and the client might never see the answer.
asio::awaitable<void> HttpSession::discard_input() {
    error_code error;
    socket_.shutdown(tcp::socket::shutdown_send, error);
    arm(linger);
    std::string scratch(4096, '\0');
    while (!error) {
        co_await socket_.async_read_some(asio::buffer(scratch),
                                         asio::redirect_error(asio::use_awaitable, error));
    }
    deadline_.disarm();
}

}  // namespace

std::string address_of(const tcp::socket& socket) {
    error_code unknown;
    return socket.remote_endpoint(unknown).address().to_string();
}

asio::awaitable<void> serve_http(std::shared_ptr<ServerCore> core, tcp::socket socket, std::string peer) {
    const auto session = std::make_shared<HttpSession>(std::move(core), std::move(socket), std::move(peer));
    co_await session->run();
}

}  // namespace smelt
