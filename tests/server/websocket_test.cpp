// /ws/stream with frames built by hand: the protocol that clients are promised, and frames that are none.
#include <gtest/gtest.h>

#include "server/client.h"
#include "server/socket.h"

namespace smelt {
namespace {

const Json question = {{"model", "demo-23m"}, {"prompt", "What is 12 + 30?"}, {"temperature", 0}};
const Json endless = {
    {"model", "demo-5m"}, {"prompt", "a"}, {"raw", true}, {"max_tokens", 900}, {"ignore_eos", true}};

Json with(Json m, const Json& more) {
    m.update(more);
    return m;
}

class WebSocketTest : public ::testing::Test {
 protected:
    static void SetUpTestSuite() { server_ = new TestServer({.models = {"demo-5m", "demo-23m"}}); }
    static void TearDownTestSuite() {
        delete server_;
        server_ = nullptr;
    }
    static TestServer* server_;
};
TestServer* WebSocketTest::server_ = nullptr;

TEST_F(WebSocketTest, RequestsShareASocketAndEachGetsItsEvents) {
    Socket s(server_->port());
    ASSERT_EQ(s.status, 101);
    EXPECT_TRUE(s.accept_is_right);
    s.send(with(question, {{"id", "a"}}));
    s.send(with(question, {{"id", "b"}, {"prompt", "What is ripgrep?"}}));
    std::map<std::string, std::string> text;
    int n_started = 0, n_ended = 0;
    while (n_ended < 2) {
        const Json e = s.event();
        ASSERT_TRUE(e["type"] == "start" || e["type"] == "token" || e["type"] == "end") << to_string(e);
        n_started += e["type"] == "start";
        n_ended += e["type"] == "end";
        if (e["type"] == "token") text[e["id"]] += e["text"].get<std::string>();
        if (e["type"] == "end") {
            EXPECT_GT(e["usage"]["completion_tokens"].get<int>(), 0);
        }
    }
    EXPECT_EQ(n_started, 2);
    EXPECT_EQ(text["a"], "12 + 30 = 42");
    EXPECT_NE(text["b"], "");
}

TEST_F(WebSocketTest, CancelEndsOneRequest) {
    Socket s(server_->port());
    s.send(with(endless, {{"id", "long"}}));
    while (s.event()["type"] != "token") {
    }
    s.send({{"type", "cancel"}, {"id", "long"}});
    Json e;
    do {
        e = s.event();
    } while (e["type"] == "token");
    EXPECT_EQ(e["type"], "end");
    EXPECT_EQ(e["finish_reason"], "cancelled");
    EXPECT_TRUE(server_->becomes_idle());
    s.send({{"type", "ping"}});
    EXPECT_EQ(s.event()["type"], "pong");
}

TEST_F(WebSocketTest, WrongMessagesAreAnsweredAndTheSocketGoesOn) {
    Socket s(server_->port());
    for (const std::string bad : {"{", "[]", "{\"type\":\"dance\"}", "{\"prompt\":5}", "{}", "{\"id\":{}}",
                                  "{\"type\":\"cancel\",\"id\":\"none\"}"}) {
        s.frame(0x81, bad);
        const Json e = s.event();
        EXPECT_EQ(e["type"], "error") << bad;
        EXPECT_EQ(e["status"], 400) << bad;
        EXPECT_TRUE(e["error"].contains("code"));
    }
    s.send(with(question, {{"id", "after"}}));
    EXPECT_EQ(s.event()["type"], "start");
}

TEST_F(WebSocketTest, BrokenFramesCloseWithTheCodeOfTheStandard) {
    const auto code_after = [&](auto break_it) {
        Socket s(server_->port());
        break_it(s);
        Frame f;
        do {
            f = s.read();
        } while (f.opcode == 1);
        return f.opcode == 8 ? f.close_code() : f.opcode;
    };
    EXPECT_EQ(code_after([](Socket& s) { s.frame(0x81, "hi", false); }), 1002);  // no mask
    EXPECT_EQ(code_after([](Socket& s) { s.frame(0xf1, "hi"); }), 1002);         // reserved bits
    EXPECT_EQ(code_after([](Socket& s) { s.frame(0x83, "hi"); }), 1002);         // reserved opcode
    EXPECT_EQ(code_after([](Socket& s) { s.frame(0x81, "\xff\xfe"); }), 1007);   // not UTF-8
    EXPECT_EQ(code_after([](Socket& s) {
                  s.raw(
                      "\x81\xff\x7f\xff\xff\xff\xff\xff\xff\xff"
                      "abcd");
              }),
              1009);
    EXPECT_EQ(code_after([](Socket& s) { s.frame(0x82, "binary"); }), 1003);
}

TEST_F(WebSocketTest, PingsAreAnsweredAndAVanishedClientFreesItsSequences) {
    Socket s(server_->port());
    s.frame(0x89, "are you there");
    const Frame pong = s.read();
    EXPECT_EQ(pong.opcode, 10);
    EXPECT_EQ(pong.data, "are you there");
    for (int i = 0; i < 3; ++i) s.send(with(endless, {{"id", i}}));
    while (s.event()["type"] != "token") {
    }
    s.close();
    EXPECT_TRUE(server_->becomes_idle());
}

TEST_F(WebSocketTest, OnlyOwnPagesOpenOneAndOnlyWithAKey) {
    EXPECT_EQ(Socket(server_->port(), "Host: localhost\r\nOrigin: https://evil.example\r\n").status, 403);
    EXPECT_EQ(Socket(server_->port(), "Host: localhost\r\nOrigin: http://localhost\r\n").status, 101);
    EXPECT_EQ(Client(server_->port()).ask("GET", "/ws/stream").status, 426);
    TestServer guarded({.access = {.api_keys = {"k"}}});
    EXPECT_EQ(Socket(guarded.port()).status, 401);
    EXPECT_EQ(Socket(guarded.port(), "Host: localhost\r\nAuthorization: Bearer k\r\n").status, 101);
}

TEST(WebSocketShutdown, RunningRequestsAreToldAndTheSocketCloses) {
    TestServerOptions options;
    options.limits.drain_timeout = std::chrono::milliseconds(50);
    options.models = {"demo-23m"};
    TestServer server(options);
    Socket s(server.port());
    s.send(with(endless, {{"model", "demo-23m"}, {"id", "x"}}));
    while (s.event()["type"] != "token") {
    }
    server.begin_stop();
    Frame f;
    std::string last;
    do {
        f = s.read();
        if (f.opcode == 1) last = f.data;
    } while (f.opcode == 1);
    EXPECT_NE(last.find("shutting_down"), std::string::npos) << last;
    EXPECT_EQ(f.opcode, 8);
    EXPECT_EQ(f.close_code(), 1001);
}

}  // namespace
}  // namespace smelt
