// Clients that do not read: their sequences wait, nobody else does, and what they read later is complete.
#include <gtest/gtest.h>

#include "server/client.h"
#include "server/socket.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;

// With likely tokens for each, some 2 KB an event, so that buffers are soon full.
const std::string wordy =
    R"({"prompt":"a","max_tokens":700,"ignore_eos":true,"temperature":0,"logprobs":5,"stream":true})";
const std::string hello = R"({"prompt":"Hello","max_tokens":2})";
const Json endless = {
    {"prompt", "a"}, {"raw", true}, {"max_tokens", 900}, {"ignore_eos", true}, {"temperature", 0}};

TestServerOptions options(std::chrono::milliseconds write_timeout) {
    TestServerOptions o;
    o.limits.write_timeout = write_timeout;
    o.limits.idle_timeout *= patience;  // pings, which these clients do not expect
    o.limits.max_buffered_bytes = size_t{16} << 10;
    o.max_seqs = 8;
    return o;
}

bool until(auto condition) {
    for (int i = 0; i < 2000 * patience; ++i) {
        if (condition()) return true;
        std::this_thread::sleep_for(5ms);
    }
    return false;
}

// Ids, times and how many tokens came in one event differ; the text does not.
std::string text_of(const std::string& events) {
    std::string all;
    for (size_t at = 0; (at = events.find("data: {", at)) != std::string::npos; ++at) {
        const Json e = Json::parse(events.substr(at + 6, events.find("\n\n", at) - at - 6));
        all += e["choices"][0]["text"].get<std::string>();
    }
    return all;
}

int n_paused(TestServer& server) {
    return server.model().loaded()->stats().n_paused;
}

TEST(Flow, AStalledStreamIsPausedAndCompleteOnceItIsRead) {
    TestServer server(options(20s * patience));
    Client quick(server.port());
    const std::string expected = quick.ask("POST", "/v1/completions", wordy).body;
    Client stalled(server.port(), 2048);
    stalled.send(Client::request("POST", "/v1/completions", wordy));
    ASSERT_TRUE(until([&] { return n_paused(server) == 1; }));
    const int64_t n_generated = server.model().loaded()->stats().n_generated;
    std::this_thread::sleep_for(100ms);
    EXPECT_EQ(server.model().loaded()->stats().n_generated, n_generated);
    EXPECT_EQ(quick.ask("POST", "/v1/completions", hello).status, 200);
    const std::string body = stalled.read_reply().body;
    EXPECT_EQ(text_of(body), text_of(expected));
    EXPECT_GT(text_of(body).size(), 700u);
    EXPECT_TRUE(body.ends_with("data: [DONE]\n\n"));
    EXPECT_TRUE(server.becomes_idle());
    EXPECT_EQ(server.model().metrics.cancelled, 0u);
}

TEST(Flow, TheWriteDeadlineEndsAStalledStream) {
    TestServer server(options(600ms));
    Client stalled(server.port(), 2048);
    stalled.send(Client::request("POST", "/v1/completions", wordy));
    ASSERT_TRUE(until([&] { return server.context().metrics.received == 1; }));
    EXPECT_TRUE(until([&] { return server.n_connections() == 0; }));
    EXPECT_TRUE(server.becomes_idle());
    const std::lock_guard lock(server.model().metrics.mutex);
    EXPECT_EQ(server.model().metrics.cancelled, 1u);
}

// Eight seats, 64 readers that never read.
TEST(Flow, ACrowdOfStalledReadersHindersNobody) {
    TestServer server(options(20s * patience));
    Client quick(server.port());
    const std::string alone = quick.ask("POST", "/v1/completions", wordy).body;
    std::vector<std::unique_ptr<Client>> crowd;
    for (int i = 0; i < 64; ++i) {
        crowd.push_back(std::make_unique<Client>(server.port(), 2048));
        crowd.back()->send(Client::request("POST", "/v1/completions", wordy));
    }
    ASSERT_TRUE(until([&] { return n_paused(server) == 64; })) << n_paused(server);
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(quick.ask("GET", "/health").status, 200);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 500ms * patience);
    EXPECT_EQ(text_of(quick.ask("POST", "/v1/completions", wordy).body), text_of(alone));
    for (auto& c : crowd) c->close();
    EXPECT_TRUE(server.becomes_idle());
}

TEST(Flow, AWebSocketThatIsNotReadPausesItsRequestsAndGoesOn) {
    TestServer server(options(20s * patience));
    Socket s(server.port(), "Host: localhost\r\n", 2048);
    for (int i = 0; i < 6; ++i) {
        Json m = endless;
        m["id"] = i;
        s.send(m);
    }
    ASSERT_TRUE(until([&] { return n_paused(server) == 6; })) << n_paused(server);
    EXPECT_EQ(Client(server.port()).ask("POST", "/v1/completions", hello).status, 200);
    std::map<std::string, std::string> texts;
    for (int n_ended = 0; n_ended < 6;) {
        const Json e = s.event();
        ASSERT_TRUE(e.contains("id")) << to_string(e);
        if (e["type"] == "token") texts[e["id"]] += e["text"].get<std::string>();
        n_ended += e["type"] == "end";
    }
    EXPECT_EQ(texts.size(), 6u);
    for (const auto& [id, text] : texts) EXPECT_EQ(text, texts["0"]);
}

TEST(Flow, TheWriteDeadlineEndsAStalledWebSocket) {
    TestServer server(options(600ms));
    Socket s(server.port(), "Host: localhost\r\n", 2048);
    for (int i = 0; i < 6; ++i) {
        Json m = endless;
        m["id"] = i;
        s.send(m);
    }
    ASSERT_TRUE(until([&] { return server.context().metrics.received > 0; }));
    EXPECT_TRUE(until([&] { return server.n_connections() == 0; }));
    EXPECT_TRUE(server.becomes_idle());
}

// Answers to messages that nobody reads would pile up without end, were they read on.
TEST(Flow, AWebSocketThatIsNotReadIsNotReadFromEither) {
    TestServer server(options(20s * patience));
    Socket s(server.port(), "Host: localhost\r\n", 2048);
    std::thread flood([&] {
        for (int i = 0; i < 8000; ++i) s.send({{"type", "ping"}, {"id", std::string(200, 'x')}});
    });
    std::this_thread::sleep_for(500ms);
    const uint64_t n = server.context().metrics.received;
    EXPECT_EQ(Client(server.port()).ask("GET", "/health").status, 200);
    EXPECT_EQ(server.context().metrics.received, n);
    for (int i = 0; i < 8000; ++i) ASSERT_EQ(s.event()["type"], "pong") << i;
    flood.join();
}

TEST(Flow, AWebSocketIsOneConnection) {
    TestServer server;
    const Socket a(server.port()), b(server.port());
    EXPECT_EQ(a.status, 101);
    EXPECT_EQ(server.n_connections(), 2u);
}

}  // namespace
}  // namespace smelt
