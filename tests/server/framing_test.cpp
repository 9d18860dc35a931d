// Where a request ends, and whether its client still listens.
#include "server/client.h"
#include "server/socket.h"

namespace smelt {
namespace {

const std::string completions = "/v1/completions";
const std::string hello = R"({"prompt":"Hello","max_tokens":2,"temperature":0,"ignore_eos":true})";
const std::string slow = R"({"prompt":"Hello","max_tokens":200,"temperature":0,"ignore_eos":true})";

class FramingTest : public ::testing::Test {
 protected:
    TestServer server_;
};

// Whatever the server did not take as a body it would take for the next request.
TEST_F(FramingTest, OneChunkedIsTheOnlyTransferEncoding) {
    const std::string smuggled = Client::request("GET", "/health");
    struct Case {
        std::string headers;
        int status;
    };
    for (const Case& c :
         {Case{"Transfer-Encoding: xchunked\r\n", 501}, Case{"Transfer-Encoding: identity\r\n", 501},
          Case{"Transfer-Encoding: gzip\r\n", 501}, Case{"Transfer-Encoding: \r\n", 501},
          Case{"Transfer-Encoding: chunked, identity\r\n", 400},
          Case{"Transfer-Encoding: gzip, chunked\r\n", 400},
          Case{"Transfer-Encoding: chunked, chunked\r\n", 400},
          Case{"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
          Case{"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", 400},
          Case{"Transfer-Encoding: \"chunked\"\r\n", 501},
          Case{"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400}}) {
        Client client(server_.port());
        client.send("POST " + completions + " HTTP/1.1\r\nHost: localhost\r\n" + c.headers + "\r\n" +
                    smuggled);
        const Reply r = client.read_reply();
        EXPECT_EQ(r.status, c.status) << c.headers << r.body;
        EXPECT_TRUE(client.closed_by_server(5)) << c.headers;
        EXPECT_EQ(client.buffer().find("HTTP/1.1 200"), std::string::npos)
            << "the rest was taken for a request";
    }
    Client old(server_.port());
    old.send("POST " + completions + " HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    EXPECT_EQ(old.read_reply().status, 400);
    Client right(server_.port());
    right.send(fmt::format(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: Chunked\r\n\r\n{:x}\r\n{}\r\n0\r\n\r\n",
        completions, hello.size(), hello));
    EXPECT_EQ(right.read_reply().status, 200);
}

// More than is kept of what a client sends ahead waits in the socket.
TEST_F(FramingTest, ALotSentAheadIsAnsweredInOrder) {
    Client client(server_.port());
    const std::string get =
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Padding: " + std::string(1000, 'a') + "\r\n\r\n";
    constexpr int n = 200;  // 200 KiB
    std::string ahead = Client::request("POST", completions, slow);
    for (int i = 0; i < n; ++i) ahead += get;
    ASSERT_TRUE(client.send(ahead));
    EXPECT_NE(client.read_reply().body.find("\"text_completion\""), std::string::npos);
    for (int i = 0; i < n; ++i) ASSERT_EQ(client.read_reply().status, 200) << i;
}

// A client that has said all may close its side and read on.
TEST_F(FramingTest, AHalfClosedConnectionGetsItsAnswer) {
    Client client(server_.port());
    client.send(Client::request("POST", completions, slow));
    client.finish_sending();
    Reply r = client.read_reply();
    while (r.status == 100) r = client.read_reply();
    EXPECT_EQ(r.status, 200);
    EXPECT_NE(r.body.find("\"text_completion\""), std::string::npos) << r.body;
    Client stream(server_.port());
    Json body = Json::parse(slow);
    body["stream"] = true;
    stream.send(Client::request("POST", completions, to_string(body)));
    stream.finish_sending();
    EXPECT_TRUE(stream.receive_until("data: [DONE]"));
}

TEST_F(FramingTest, AClosedOneEndsItsRequest) {
    Json body = Json::parse(slow);
    body["max_tokens"] = 900;
    for (const bool stream : {false, true}) {
        body["stream"] = stream;
        {
            Client client(server_.port());
            client.send(Client::request("POST", completions, to_string(body)));
            while (server_.model().outstanding == 0)
                std::this_thread::sleep_for(std::chrono::milliseconds(1));
        }
        EXPECT_TRUE(server_.becomes_idle());
    }
    const std::lock_guard lock(server_.model().metrics.mutex);
    EXPECT_EQ(server_.model().metrics.cancelled, 2u);
}

TEST_F(FramingTest, HandshakesOfWebSocketsAreRefusedInTheApisForm) {
    const std::string head =
        "GET /ws/stream HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
    const std::string version = "Sec-WebSocket-Version: 13\r\n",
                      key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    struct Case {
        std::string headers;
        int status;
    };
    for (const Case& c : {Case{key, 426}, Case{key + "Sec-WebSocket-Version: 8\r\n", 426}, Case{version, 400},
                          Case{version + "Sec-WebSocket-Key: c2hvcnQ=\r\n", 400},
                          Case{version + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZSBsb25n\r\n", 400},
                          Case{version + "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n", 400}}) {
        Client client(server_.port());
        client.send(head + c.headers + "\r\n");
        const Reply r = client.read_reply();
        EXPECT_EQ(r.status, c.status) << c.headers;
        EXPECT_EQ(r.code(), "bad_http") << c.headers << r.body;
    }
    Client right(server_.port());
    right.send(head + version + key + "\r\n");
    ASSERT_TRUE(right.receive_until("\r\n\r\n"));
    EXPECT_EQ(right.buffer().substr(9, 3), "101");
}

// A frame's head that promises 60,000 bytes, and as many of them as are given.
std::string unfinished(size_t n_sent) {
    std::string bytes = {'\x81', '\xfe', '\xea', '\x60', 0, 0, 0, 0};
    return bytes + std::string(n_sent, ' ');
}

TEST(WebSocketLimits, AMessageHasTheTimeOfABody) {
    TestServerOptions options;
    options.limits.body_timeout = std::chrono::milliseconds(400);
    TestServer server(options);
    Socket dripping(server.port());
    dripping.raw(unfinished(10));
    const auto start = std::chrono::steady_clock::now();
    while (server.n_connections() > 0 &&
           std::chrono::steady_clock::now() - start < std::chrono::seconds(20)) {
        dripping.raw(" ");
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    EXPECT_EQ(server.n_connections(), 0u);
    Socket idle(server.port());
    std::this_thread::sleep_for(std::chrono::milliseconds(800));
    idle.send({{"type", "ping"}, {"id", "a"}});
    EXPECT_EQ(idle.event()["type"], "pong") << "between messages there is time";
}

TEST(WebSocketLimits, UnfinishedMessagesCountAsBodies) {
    TestServerOptions options;
    options.limits.max_memory_bytes = 200'000;
    TestServer server(options);
    {
        Socket first(server.port());
        first.raw(unfinished(59'000));
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        Socket second(server.port());
        second.raw(unfinished(59'000));
        const Frame f = second.read();
        EXPECT_EQ(f.opcode, 8);
        EXPECT_EQ(f.close_code(), 1013);
    }
    const auto start = std::chrono::steady_clock::now();
    while (server.n_connections() > 0 &&
           std::chrono::steady_clock::now() - start < std::chrono::seconds(20)) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    Socket after(server.port());
    after.send({{"type", "ping"}, {"id", "a"}});
    EXPECT_EQ(after.event()["type"], "pong") << "the bytes are given back";
}

// 15 MB of a broken string came back as 15 MB of an error.
TEST_F(FramingTest, AParseErrorDoesNotRepeatTheText) {
    for (const std::string& body :
         {"{\"prompt\": \"" + std::string(3'000'000, 'x'), std::string(3'000'000, 'x'),
          "{\"a\": secret" + std::string(100'000, 'y') + "}"}) {
        const Reply r = Client(server_.port()).ask("POST", completions, body);
        EXPECT_EQ(r.code(), "invalid_json");
        EXPECT_LT(r.body.size(), 600u);
        EXPECT_EQ(r.body.find("secret"), std::string::npos) << r.body;
    }
}

// The same of what is JSON: a type, a name, a pattern that nobody knows.
TEST_F(FramingTest, NoErrorRepeatsWhatWasSent) {
    const std::string much(200'000, 'x');
    const Json messages = Json::array({{{"role", "user"}, {"content", "a"}}});
    const auto form = [](Json schema) -> Json {
        return {{"type", "json_schema"}, {"json_schema", {{"name", "n"}, {"schema", std::move(schema)}}}};
    };
    for (const Json& body :
         {Json{{"messages", messages}, {"response_format", form({{"type", much}})}},
          Json{{"messages", messages}, {"response_format", form({{"$ref", "#/" + much}})}},
          Json{{"messages", messages}, {"response_format", form({{"pattern", "(" + much}})}},
          Json{{"messages", messages}, {"grammar", "root ::= " + much}},
          Json{{"messages", messages}, {"model", much}},
          Json{{"messages", {{{"role", much}, {"content", "a"}}}}},
          Json{{"messages", messages}, {"tool_choice", much}}}) {
        const Reply r = Client(server_.port()).ask("POST", "/v1/chat/completions", to_string(body));
        EXPECT_GE(r.status, 400);
        EXPECT_LT(r.body.size(), 2500u) << r.body.substr(0, 300);
    }
}

}  // namespace
}  // namespace smelt
