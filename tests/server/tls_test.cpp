// HTTPS with a certificate made for the test: the same answers, and the same patience with broken clients.
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <filesystem>

#include "server/client.h"

namespace smelt {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using boost::system::error_code;

// Signs itself, for localhost.
class Certificate {
 public:
    Certificate()
        : folder_(std::filesystem::temp_directory_path() / fmt::format("smelt_tls_{}", ::getpid())) {
        std::filesystem::create_directories(folder_);
        const std::string command = fmt::format(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj "
            "/CN=localhost "
            "-addext subjectAltName=DNS:localhost -keyout {} -out {} 2>/dev/null",
            files().key, files().certificate);
        if (std::system(command.c_str()) != 0) throw std::runtime_error("openssl failed");
    }
    ~Certificate() { std::filesystem::remove_all(folder_); }
    TlsFiles files() const { return {.certificate = folder_ / "cert.pem", .key = folder_ / "key.pem"}; }

 private:
    std::filesystem::path folder_;
};

class TlsTest : public ::testing::Test {
 protected:
    TlsTest() : server_(options(certificate_)) {
        context_.load_verify_file(certificate_.files().certificate);
        context_.set_verify_mode(asio::ssl::verify_peer);
    }
    static TestServerOptions options(const Certificate& c) {
        TestServerOptions o;
        o.tls = c.files();
        o.limits.header_timeout = 700ms * patience;
        o.limits.write_timeout = 700ms * patience;
        return o;
    }

    struct Connection {
        asio::io_context io;
        asio::ssl::stream<asio::ip::tcp::socket> stream;

        Connection(uint16_t port, asio::ssl::context& context) : stream(io, context) {
            stream.set_verify_callback(asio::ssl::host_name_verification("localhost"));
            stream.next_layer().connect({asio::ip::address_v4::loopback(), port});
            stream.handshake(asio::ssl::stream_base::client);
        }
        void send(const std::string& text) { asio::write(stream, asio::buffer(text)); }
        // To the end of the connection.
        std::string read_all() {
            std::string all, piece(65536, '\0');
            error_code error;
            while (!error) {
                const size_t n = stream.read_some(asio::buffer(piece), error);
                all.append(piece, 0, n);
            }
            return all;
        }
    };
    static std::string post(const std::string& body) {
        return Client::request("POST", "/v1/completions", body, "Host: localhost\r\nConnection: close\r\n");
    }

    Certificate certificate_;
    TestServer server_;
    asio::ssl::context context_{asio::ssl::context::tls_client};
};

TEST_F(TlsTest, AnswersWholeAndStreamed) {
    for (const char* stream : {"false", "true"}) {
        Connection c(server_.port(), context_);
        c.send(
            post(fmt::format(R"({{"prompt":"a","max_tokens":300,"ignore_eos":true,"stream":{}}})", stream)));
        const std::string answer = c.read_all();
        EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer.substr(0, 200);
        EXPECT_NE(answer.find("\"finish_reason\":\"length\""), std::string::npos);
    }
    // A body of many records.
    Connection c(server_.port(), context_);
    std::string text;
    for (int i = 0; i < 100'000; ++i) text += "word ";
    c.send(post(R"({"prompt":")" + text + "\"}"));
    EXPECT_NE(c.read_all().find("context_length_exceeded"), std::string::npos);
    EXPECT_TRUE(server_.becomes_idle());
}

TEST_F(TlsTest, AClientThatVanishesFreesItsSequence) {
    for (const bool politely : {true, false}) {
        Connection c(server_.port(), context_);
        c.send(post(R"({"prompt":"a","max_tokens":900,"ignore_eos":true,"stream":true})"));
        std::string piece(100, '\0');
        ASSERT_GT(c.stream.read_some(asio::buffer(piece)), 0u);
        error_code ignored;
        if (politely) c.stream.shutdown(ignored);
        c.stream.next_layer().close(ignored);
        EXPECT_TRUE(server_.becomes_idle());
    }
}

TEST_F(TlsTest, AStalledReaderIsCutAtTheWriteDeadline) {
    Connection c(server_.port(), context_);
    c.stream.next_layer().set_option(asio::socket_base::receive_buffer_size(2048));
    c.send(post(R"({"prompt":"a","max_tokens":900,"ignore_eos":true,"stream":true,"n":8,"logprobs":5})"));
    for (int i = 0; i < 1000 * patience && server_.n_connections() == 0; ++i)
        std::this_thread::sleep_for(5ms);
    for (int i = 0; i < 4000 * patience && server_.n_connections() > 0; ++i) std::this_thread::sleep_for(5ms);
    EXPECT_EQ(server_.n_connections(), 0u);
    EXPECT_TRUE(server_.becomes_idle());
}

TEST_F(TlsTest, WhatIsNoHandshakeEnds) {
    Client plain(server_.port()), silent(server_.port()), garbage(server_.port());
    plain.send(Client::request("GET", "/health"));
    garbage.send(std::string(10'000, '\xff'));
    EXPECT_TRUE(plain.closed_by_server(5));
    EXPECT_TRUE(garbage.closed_by_server(5));
    EXPECT_TRUE(silent.closed_by_server(5));
    EXPECT_EQ(server_.n_connections(), 0u);
    Connection c(server_.port(), context_);
    c.send(Client::request("GET", "/health", "", "Host: localhost\r\nConnection: close\r\n"));
    EXPECT_TRUE(c.read_all().starts_with("HTTP/1.1 200"));
}

TEST_F(TlsTest, OnlyCurrentVersionsOfTls) {
    asio::ssl::context old(asio::ssl::context::tlsv11_client);
    old.set_verify_mode(asio::ssl::verify_none);
    EXPECT_THROW(Connection(server_.port(), old), boost::system::system_error);
}

TEST_F(TlsTest, DrainingFinishesAStream) {
    Connection c(server_.port(), context_);
    c.send(post(R"({"prompt":"a","max_tokens":300,"ignore_eos":true,"stream":true})"));
    std::string piece(100, '\0');
    ASSERT_GT(c.stream.read_some(asio::buffer(piece)), 0u);
    server_.begin_stop();
    EXPECT_NE(c.read_all().find("[DONE]"), std::string::npos);
    EXPECT_EQ(server_.stop(), 0);
}

TEST(TlsFiles, WrongOnesAreNamed) {
    const Certificate good;
    const auto text_of = [](TlsFiles files) -> std::string {
        try {
            HttpServer server({.port = 0, .tls = files});
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_NE(text_of({.certificate = good.files().certificate}).find("certificate and its key"),
              std::string::npos);
    EXPECT_NE(text_of({.certificate = "/nonexistent", .key = good.files().key}).find("/nonexistent"),
              std::string::npos);
    EXPECT_NE(text_of({.certificate = good.files().certificate, .key = good.files().certificate})
                  .find("private key"),
              std::string::npos);
    EXPECT_EQ(text_of(good.files()), "");
}

}  // namespace
}  // namespace smelt
