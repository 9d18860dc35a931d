// The answer to one HTTP request on its way to the socket: head, chunks, what is not yet written.
#pragma once

#include <boost/asio/steady_timer.hpp>
#include <deque>

#include "server/http/connections.h"

namespace smelt {

class HttpExchange final : public Exchange, public std::enable_shared_from_this<HttpExchange> {
 public:
    struct About {
        std::string id = {};
        HttpHeaders headers = {};  // for every answer
        bool keep_alive = false;
        bool chunked = true;    // HTTP/1.0 has none: the end of the connection ends the stream
        bool with_body = true;  // not for HEAD
    };

    // `memory`: what the request holds so far; null: nothing.
    HttpExchange(ServerCore& core, About about, std::unique_ptr<MemoryShare> memory = nullptr);

    void send(HttpAnswer answer) override;
    void begin_stream(HttpAnswer head) override;
    void write(std::string bytes) override;
    void end() override;
    void abandon() override { lose(Loss::gone); }
    void on_loss(std::function<void(Loss)> handler) override;
    void on_flow(std::function<void(bool full)> handler) override;
    void post(std::function<void()> work) override;
    Held hold(size_t n_bytes) override { return memory_ == nullptr ? Held::yes : memory_->add(n_bytes); }
    Held hold_only(size_t n_bytes) override {
        return memory_ == nullptr ? Held::yes : memory_->resize(n_bytes);
    }

    // Of the session, on the I/O thread.
    void lose(Loss loss);
    // The handler threw; or there was too little memory for what it did.
    void fail(bool no_memory);
    bool lost() const { return gone_; }
    // From any thread.
    const std::atomic<bool>& nobody_waits() const { return nobody_waits_; }
    bool started() const { return started_; }
    bool ended() const { return ended_; }
    bool is_chunked() const { return about_.chunked; }  // HTTP/1.1
    bool keep_alive() const { return about_.keep_alive; }
    std::string take();
    void sent(size_t n);  // of what was taken
    bool has_output() const { return !out_.empty(); }
    asio::steady_timer& wake() { return wake_; }

 private:
    void append(std::string bytes);
    std::string head(const HttpAnswer& answer, std::string_view framing) const;

    ServerCore& core_;
    About about_;
    std::unique_ptr<MemoryShare> memory_;
    asio::steady_timer wake_;  // cancelled when there is something to do
    std::deque<std::string> out_;
    size_t n_unsent_ = 0;  // bytes in out_, and taken but not sent
    bool full_ = false;
    std::function<void(Loss)> on_loss_;
    std::function<void(bool)> on_flow_;
    std::optional<Loss> loss_;
    bool started_ = false, ended_ = false, gone_ = false;
    std::atomic<bool> nobody_waits_ = false;
};

}  // namespace smelt
