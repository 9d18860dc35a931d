// Everything is dispatched to the I/O thread, so the state needs no lock.
#include "server/http/http_exchange.h"

#include <fmt/format.h>

#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>

namespace smelt {

namespace {

std::string_view reason(int status) {
    switch (status) {
        case 200:
            return "OK";
        case 204:
            return "No Content";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 406:
            return "Not Acceptable";
        case 408:
            return "Request Timeout";
        case 413:
            return "Content Too Large";
        case 414:
            return "URI Too Long";
        case 415:
            return "Unsupported Media Type";
        case 426:
            return "Upgrade Required";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 501:
            return "Not Implemented";
        case 503:
            return "Service Unavailable";
        default:
            return "Status";
    }
}

}  // namespace

HttpExchange::HttpExchange(ServerCore& core, About about, std::unique_ptr<MemoryShare> memory)
    : core_(core),
      about_(std::move(about)),
      memory_(std::move(memory)),
      wake_(core.io, asio::steady_timer::time_point::max()) {}

std::string HttpExchange::head(const HttpAnswer& a, std::string_view framing) const {
    std::string text = fmt::format(
        "HTTP/1.1 {} {}\r\nserver: smelt\r\nx-request-id: {}\r\ncontent-type: {}\r\n"
        "x-content-type-options: nosniff\r\nconnection: {}\r\n",
        a.status, reason(a.status), about_.id, a.type, about_.keep_alive ? "keep-alive" : "close");
    for (const HttpHeaders* headers : {&about_.headers, &a.headers}) {
        for (const auto& [name, value] : *headers) text += fmt::format("{}: {}\r\n", name, value);
    }
    text += framing;
    return text + "\r\n";
}

void HttpExchange::append(std::string bytes) {
    if (gone_ || bytes.empty()) return;
    n_unsent_ += bytes.size();
    out_.push_back(std::move(bytes));
    wake_.cancel();
}

// Small pieces together, a large one as it is.
std::string HttpExchange::take() {
    constexpr size_t enough = size_t{64} << 10;
    std::string text = std::move(out_.front());
    out_.pop_front();
    while (!out_.empty() && text.size() + out_.front().size() <= enough) {
        text += out_.front();
        out_.pop_front();
    }
    return text;
}

void HttpExchange::sent(size_t n) {
    n_unsent_ -= n;
    if (!full_ || n_unsent_ > core_.options.limits.max_buffered_bytes / 2) return;
    full_ = false;
    if (on_flow_) on_flow_(false);
}

void HttpExchange::send(HttpAnswer answer) {
    asio::dispatch(core_.io, [self = shared_from_this(), a = std::move(answer)]() mutable {
        if (self->started_) return;
        self->started_ = self->ended_ = true;
        self->append(self->head(a, fmt::format("content-length: {}\r\n", a.body.size())));
        if (self->about_.with_body) self->append(std::move(a.body));
        self->on_loss_ = nullptr;
    });
}

void HttpExchange::begin_stream(HttpAnswer head) {
    asio::dispatch(core_.io, [self = shared_from_this(), a = std::move(head)] {
        if (self->started_) return;
        self->started_ = true;
        if (!self->about_.chunked) self->about_.keep_alive = false;
        self->append(self->head(a, self->about_.chunked ? "transfer-encoding: chunked\r\n" : ""));
    });
}

void HttpExchange::write(std::string bytes) {
    asio::dispatch(core_.io, [self = shared_from_this(), text = std::move(bytes)] {
        if (!self->started_ || self->ended_ || text.empty() || !self->about_.with_body) return;
        self->append(self->about_.chunked ? fmt::format("{:x}\r\n{}\r\n", text.size(), text) : text);
        if (self->full_ || self->n_unsent_ <= self->core_.options.limits.max_buffered_bytes) return;
        self->full_ = true;
        if (self->on_flow_) self->on_flow_(true);
    });
}

void HttpExchange::end() {
    asio::dispatch(core_.io, [self = shared_from_this()] {
        if (!self->started_ || self->ended_) return;
        self->ended_ = true;
        if (self->about_.chunked && self->about_.with_body) self->append("0\r\n\r\n");
        self->wake_.cancel();
        self->on_loss_ = nullptr;
        self->on_flow_ = nullptr;
    });
}

void HttpExchange::on_flow(std::function<void(bool)> handler) {
    asio::dispatch(core_.io, [self = shared_from_this(), handler = std::move(handler)]() mutable {
        if (self->ended_) return;
        if (self->full_) handler(true);
        self->on_flow_ = std::move(handler);
    });
}

void HttpExchange::on_loss(std::function<void(Loss)> handler) {
    asio::dispatch(core_.io, [self = shared_from_this(), handler = std::move(handler)]() mutable {
        if (self->loss_) return handler(*self->loss_);
        if (!self->ended_) self->on_loss_ = std::move(handler);
    });
}

void HttpExchange::post(std::function<void()> work) {
    asio::post(core_.io, std::move(work));
}

void HttpExchange::lose(Loss loss) {
    if (gone_ || loss_ == loss) return;
    loss_ = loss;
    nobody_waits_ = true;
    if (loss != Loss::shutdown) {
        gone_ = true;
        out_.clear();
        on_flow_ = nullptr;
    }
    // A copy: the handler may end the exchange, which drops it.
    const auto handler = on_loss_;
    if (handler) handler(loss);
    wake_.cancel();
}

void HttpExchange::fail(bool no_memory) {
    asio::dispatch(core_.io, [self = shared_from_this(), no_memory] {
        if (self->started_) {
            self->about_.keep_alive = false;
            return self->end();
        }
        HttpHandler& handler = *self->core_.handler;
        self->send(no_memory ? handler.error(503, "insufficient_memory", "too little memory")
                             : handler.error(500, "internal_error", "internal error"));
    });
}

}  // namespace smelt
