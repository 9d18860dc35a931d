// TLS in front of a connection: bytes are taken out here and go through a pair of local sockets, so that
// everything else is the same with and without it.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>

#include "base/error.h"
#include "server/http/connections.h"

namespace smelt {

namespace {

using boost::system::error_code;
using local = asio::local::stream_protocol;

constexpr size_t piece = size_t{16} << 10;   // a record of TLS
constexpr std::chrono::seconds farewell{2};  // for the client's own goodbye
constexpr int inner_buffer = 64 << 10;       // bytes; the outer socket has its own

class Relay final : public std::enable_shared_from_this<Relay> {
 public:
    Relay(std::shared_ptr<ServerCore> core, tcp::socket socket)
        : core_(std::move(core)),
          peer_(address_of(socket)),
          outer_(std::move(socket), *core_->tls),
          inner_(core_->io),
          deadline_(core_->io, outer_.next_layer()) {}

    asio::awaitable<void> run();

 private:
    asio::awaitable<bool> shake_hands();
    asio::awaitable<void> pump_in();
    asio::awaitable<void> pump_out();

    std::shared_ptr<ServerCore> core_;
    const std::string peer_;
    asio::ssl::stream<tcp::socket> outer_;
    local::socket inner_;
    Deadline deadline_;  // of the handshake, then of writes
};

asio::awaitable<bool> Relay::shake_hands() {
    error_code error;
    ++core_->n_handshakes;
    deadline_.arm(core_->options.limits.header_timeout, weak_from_this());
    co_await outer_.async_handshake(asio::ssl::stream_base::server,
                                    asio::redirect_error(asio::use_awaitable, error));
    deadline_.disarm();
    --core_->n_handshakes;
    co_return !error && !core_->draining;
}

asio::awaitable<void> Relay::run() {
    const bool secure = co_await shake_hands();
    if (!secure) co_return;
    local::socket far(core_->io);
    error_code error;
    asio::local::connect_pair(inner_, far, error);
    if (error) co_return;
    for (local::socket* s : {&inner_, &far}) {
        s->non_blocking(true, error);
        s->set_option(asio::socket_base::send_buffer_size(inner_buffer), error);
    }
    // A stream socket is read and written alike, whatever its family.
    tcp::socket session(core_->io);
    session.assign(tcp::v4(), far.release(error), error);
    if (error) co_return;
    session.non_blocking(true, error);
    ++core_->n_relays;
    asio::co_spawn(core_->io, serve_http(core_, std::move(session), peer_), asio::detached);
    asio::co_spawn(
        core_->io, [self = shared_from_this()] { return self->pump_in(); }, asio::detached);
    co_await pump_out();
    --core_->n_relays;
    core_->stop_when_done();
}

asio::awaitable<void> Relay::pump_in() {
    std::string bytes(piece, '\0');
    error_code error;
    while (!error) {
        const size_t n = co_await outer_.async_read_some(asio::buffer(bytes),
                                                         asio::redirect_error(asio::use_awaitable, error));
        if (error) break;
        co_await asio::async_write(inner_, asio::buffer(bytes.data(), n),
                                   asio::redirect_error(asio::use_awaitable, error));
    }
    error_code ignored;
    inner_.shutdown(local::socket::shutdown_send, ignored);
}

asio::awaitable<void> Relay::pump_out() {
    std::string bytes(piece, '\0');
    error_code error, end;
    while (!error) {
        const size_t n = co_await inner_.async_read_some(asio::buffer(bytes),
                                                         asio::redirect_error(asio::use_awaitable, end));
        if (end) break;
        deadline_.arm(core_->options.limits.write_timeout, weak_from_this());
        co_await asio::async_write(outer_, asio::buffer(bytes.data(), n),
                                   asio::redirect_error(asio::use_awaitable, error));
        deadline_.disarm();
    }
    if (!error) {
        deadline_.arm(farewell, weak_from_this());
        co_await outer_.async_shutdown(asio::redirect_error(asio::use_awaitable, error));
        deadline_.disarm();
    }
    inner_.close(end);
    outer_.next_layer().close(end);
}

}  // namespace

asio::awaitable<void> serve_tls(std::shared_ptr<ServerCore> core, tcp::socket socket) {
    const auto relay = std::make_shared<Relay>(std::move(core), std::move(socket));
    co_await relay->run();
}

std::unique_ptr<asio::ssl::context> load_tls(const TlsFiles& files) {
    if (files.certificate.empty() && files.key.empty()) return nullptr;
    if (files.certificate.empty() || files.key.empty()) {
        throw Error("TLS: expected a certificate and its key, found one of them");
    }
    auto context = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
    error_code error;
    context->set_options(asio::ssl::context::default_workarounds | asio::ssl::context::no_tlsv1 |
                             asio::ssl::context::no_tlsv1_1 | asio::ssl::context::no_compression,
                         error);
    if (context->use_certificate_chain_file(files.certificate, error); error) {
        throw Error("{}: cannot be used as a certificate chain (PEM): {}", files.certificate,
                    error.message());
    }
    if (context->use_private_key_file(files.key, asio::ssl::context::pem, error); error) {
        throw Error("{}: cannot be used as the private key (PEM) of {}: {}", files.key, files.certificate,
                    error.message());
    }
    return context;
}

}  // namespace smelt
