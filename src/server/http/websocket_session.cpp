// Frames are Beast's business: masks, sizes, UTF-8, close codes, pings. Here: one reader, one writer, limits.
#include "server/http/websocket_session.h"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/websocket.hpp>
#include <deque>

#include "base/log.h"

namespace smelt {

namespace {

namespace websocket = boost::beast::websocket;
using boost::system::error_code;

class WebSocketSession final : public Connection,
                               public WebSocketPeer,
                               public std::enable_shared_from_this<WebSocketSession> {
 public:
    WebSocketSession(std::shared_ptr<ServerCore> core, tcp::socket socket)
        : core_(std::move(core)),
          ws_(std::move(socket)),
          wake_(core_->io, asio::steady_timer::time_point::max()),
          room_(core_->io, asio::steady_timer::time_point::max()),
          deadline_(core_->io),
          read_deadline_(core_->io),
          read_(core_->io) {}

    asio::awaitable<void> run(const boost::beast::http::request<boost::beast::http::string_body>& upgrade,
                              HttpRequest head, std::string peer);

    void send(std::string text) override {
        asio::dispatch(core_->io, [self = shared_from_this(), t = std::move(text)]() mutable {
            if (self->closed_ || self->close_) return;
            self->out_bytes_ += t.size();
            self->out_.push_back(std::move(t));
            self->wake_.cancel();
            if (!self->full_ && self->out_bytes_ > self->core_->options.limits.max_buffered_bytes) {
                self->full_ = true;
                if (self->listener_) self->listener_->flow(true);
            }
        });
    }
    void close(int code, std::string reason) override {
        asio::dispatch(core_->io, [self = shared_from_this(), code, r = std::move(reason)] {
            if (!self->close_)
                self->close_ = websocket::close_reason(static_cast<websocket::close_code>(code), r);
            self->wake_.cancel();
        });
    }
    void post(std::function<void()> work) override { asio::post(core_->io, std::move(work)); }

    void drain() override {
        if (listener_) return listener_->drain();
        abandon();
    }
    void cut() override {
        nobody_waits_ = true;
        if (listener_) return listener_->cut();
        abandon();
    }

 private:
    void end();
    asio::awaitable<void> read();
    asio::awaitable<void> write();
    enum class Got { message, too_much, end };
    asio::awaitable<Got> read_message(boost::beast::flat_buffer& buffer, MemoryShare& share);
    asio::awaitable<void> say_goodbye();
    asio::awaitable<void> take(std::string text, std::shared_ptr<MemoryShare> share);
    asio::awaitable<std::function<void()>> take_long(std::string text, std::shared_ptr<MemoryShare> share);
    void sent(size_t n);
    void abandon() {
        error_code ignored;
        ws_.next_layer().close(ignored);
        room_.cancel();
    }

    std::shared_ptr<ServerCore> core_;
    websocket::stream<tcp::socket> ws_;
    asio::steady_timer wake_, room_;    // cancelled when there is something to write, or room for more
    asio::steady_timer deadline_;       // of a write
    asio::steady_timer read_deadline_;  // of a message that has begun
    std::shared_ptr<WebSocketListener> listener_;
    std::deque<std::string> out_;
    size_t out_bytes_ = 0;  // with the message that is being written
    bool full_ = false;
    std::optional<websocket::close_reason> close_;
    bool closed_ = false;
    std::string client_;       // a key or an address
    asio::steady_timer read_;  // cancelled when such work is done
    std::atomic<bool> nobody_waits_ = false;
};

asio::awaitable<void> WebSocketSession::write() {
    while (!closed_) {
        error_code error;
        if (!out_.empty()) {
            const std::string text = std::move(out_.front());
            out_.pop_front();
            deadline_.expires_after(core_->options.limits.write_timeout);
            deadline_.async_wait([weak = weak_from_this()](error_code e) {
                if (const auto self = weak.lock(); self && !e) self->abandon();
            });
            co_await ws_.async_write(asio::buffer(text), asio::redirect_error(asio::use_awaitable, error));
            deadline_.cancel();
            if (error) co_return abandon();
            sent(text.size());
            continue;
        }
        if (close_) {
            co_await ws_.async_close(*close_, asio::redirect_error(asio::use_awaitable, error));
            co_return;
        }
        co_await wake_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
}

void WebSocketSession::sent(size_t n) {
    out_bytes_ -= n;
    if (!full_ || out_bytes_ > core_->options.limits.max_buffered_bytes / 2) return;
    full_ = false;
    room_.cancel();
    if (listener_) listener_->flow(false);
}

// The next message is not read before this one is understood, nor while the client does not read ours.
asio::awaitable<void> WebSocketSession::take(std::string text, std::shared_ptr<MemoryShare> share) {
    const auto understand = [this, listener = listener_, &text,
                             &share]() -> asio::awaitable<std::function<void()>> {
        try {
            co_return listener->read(text, {.client = client_}, share);
        } catch (const TakesLong&) {
            share->resize(text.capacity());
            co_return nullptr;
        }
    };
    std::function<void()> rest =
        co_await asio::co_spawn(core_->workers.context(), understand, asio::use_awaitable);
    if (!rest) rest = co_await take_long(std::move(text), std::move(share));
    if (rest) rest();
    while (full_ && ws_.next_layer().is_open()) {
        error_code error;
        co_await room_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
}

// The same where it may take long. No function: there was too little memory.
asio::awaitable<std::function<void()>> WebSocketSession::take_long(std::string text,
                                                                   std::shared_ptr<MemoryShare> share) {
    struct Reading {
        std::string text;
        std::shared_ptr<MemoryShare> share;
        std::function<void()> rest = {};
        bool done = false;
    };
    const auto reading =
        std::make_shared<Reading>(Reading{.text = std::move(text), .share = std::move(share)});
    core_->long_workers.post(client_, [self = shared_from_this(), listener = listener_, reading] {
        try {
            const WorkerTurn turn{
                .may_take_long = true, .nobody_waits = &self->nobody_waits_, .client = self->client_};
            reading->rest = listener->read(reading->text, turn, reading->share);
        } catch (const std::exception& e) {
            spdlog::error("internal error: {}", e.what());
        }
        asio::post(self->core_->io, [self, reading] {
            reading->done = true;
            self->read_.cancel();
        });
    });
    while (!reading->done) {
        error_code error;
        co_await read_.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    co_return std::move(reading->rest);
}

asio::awaitable<void> WebSocketSession::run(
    const boost::beast::http::request<boost::beast::http::string_body>& upgrade, HttpRequest head,
    std::string peer) {
    const HttpLimits& limits = core_->options.limits;
    // Half of the idle time without a frame: Beast pings; the whole of it: the connection is dead.
    ws_.set_option(websocket::stream_base::timeout{limits.header_timeout, limits.idle_timeout, true});
    ws_.set_option(websocket::stream_base::decorator([id = head.id](websocket::response_type& answer) {
        answer.set(boost::beast::http::field::server, "smelt");
        answer.set("x-request-id", id);
    }));
    ws_.read_message_max(limits.max_body_bytes);
    error_code error;
    co_await ws_.async_accept(upgrade, asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;

    listener_ = core_->handler->open_websocket(head, shared_from_this());
    client_ = core_->handler->client_of(head);
    if (client_.empty()) client_ = std::move(peer);
    // However this coroutine ends: where memory was too little to resume it, it is only destroyed.
    struct AtTheEnd {
        WebSocketSession& s;
        ~AtTheEnd() { s.end(); }
    };
    const AtTheEnd at_the_end{*this};
    // A connection that cannot be written to is none.
    asio::co_spawn(
        core_->io, [self = shared_from_this()] { return self->write(); },
        [self = shared_from_this()](std::exception_ptr failed) {
            if (failed) self->abandon();
        });
    co_await read();
}

void WebSocketSession::end() {
    closed_ = true;
    nobody_waits_ = true;
    abandon();
    wake_.cancel();
    if (const auto listener = std::exchange(listener_, nullptr)) listener->closed();
}

// A whole message, within the time of a request's body and counted as one.
asio::awaitable<WebSocketSession::Got> WebSocketSession::read_message(boost::beast::flat_buffer& buffer,
                                                                      MemoryShare& share) {
    constexpr size_t piece = size_t{64} << 10;
    bool begun = false;
    Got got = Got::too_much;
    do {
        error_code error;
        co_await ws_.async_read_some(buffer, piece, asio::redirect_error(asio::use_awaitable, error));
        if (error) got = Got::end;
        if (error || ws_.is_message_done()) break;
        if (!std::exchange(begun, true)) {
            read_deadline_.expires_after(core_->options.limits.body_timeout);
            read_deadline_.async_wait([weak = weak_from_this()](error_code e) {
                if (const auto self = weak.lock(); self && !e) self->abandon();
            });
        }
    } while (share.resize(buffer.capacity()) == Held::yes);
    read_deadline_.cancel();
    if (got != Got::end && ws_.is_message_done() && share.resize(buffer.capacity()) == Held::yes)
        got = Got::message;
    co_return got;
}

// The client hears why, if it listens; what else it sends is dropped.
asio::awaitable<void> WebSocketSession::say_goodbye() {
    close(1013, "too many bytes of messages at once");
    read_deadline_.expires_after(farewell);
    read_deadline_.async_wait([weak = weak_from_this()](error_code e) {
        if (const auto self = weak.lock(); self && !e) self->abandon();
    });
    boost::beast::flat_buffer dropped;
    error_code error;
    while (!error) {
        co_await ws_.async_read_some(dropped, size_t{4} << 10,
                                     asio::redirect_error(asio::use_awaitable, error));
        dropped.consume(dropped.size());
    }
    read_deadline_.cancel();
}

asio::awaitable<void> WebSocketSession::read() {
    boost::beast::flat_buffer buffer;
    while (true) {
        auto share = std::make_shared<MemoryShare>(core_->memory, client_);
        const Got got = co_await read_message(buffer, *share);
        if (got == Got::too_much) {
            buffer = {};
            co_await say_goodbye();
        }
        if (got != Got::message) break;
        if (ws_.got_text()) {
            try {
                std::string text(static_cast<const char*>(buffer.data().data()), buffer.size());
                buffer.consume(buffer.size());
                // One large message does not keep its memory for good.
                if (buffer.capacity() > size_t{64} << 10) buffer.shrink_to_fit();
                share->resize(text.capacity());
                co_await take(std::move(text), std::move(share));
            } catch (const std::bad_alloc&) {
                close(1011, "too little memory");
            }
        } else {
            close(1003, "text messages only");
        }
        buffer.consume(buffer.size());
    }
}

}  // namespace

asio::awaitable<void> serve_websocket(
    std::shared_ptr<ServerCore> core, tcp::socket socket, Registration& registration,
    const boost::beast::http::request<boost::beast::http::string_body>& upgrade, HttpRequest head,
    std::string peer) {
    const auto session = std::make_shared<WebSocketSession>(std::move(core), std::move(socket));
    registration.hand_to(session.get());
    co_await session->run(upgrade, std::move(head), std::move(peer));
}

}  // namespace smelt
