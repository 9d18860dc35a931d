// What broken and hostile clients do, and that nobody else notices.
#include "server/client.h"

#include <gtest/gtest.h>

namespace smelt {
namespace {

using namespace std::chrono_literals;

const std::string chat = "/v1/chat/completions";
const std::string hello = R"({"messages":[{"role":"user","content":"Hello"}],"max_tokens":2})";
// Long enough to be interrupted: the demo model would end by itself.
const std::string long_stream =
    R"({"prompt":"a","max_tokens":900,"ignore_eos":true,"stream":true,"temperature":0})";

class FaultTest : public ::testing::Test {
 protected:
    static TestServerOptions options() {
        TestServerOptions o;
        o.limits.header_timeout = 700ms * patience;
        o.limits.body_timeout = 700ms * patience;
        o.limits.write_timeout = 700ms * patience;
        o.limits.max_body_bytes = size_t{1} << 20;
        return o;
    }
    FaultTest() : server_(options()) {}
    // After every fault: a request is answered, nothing runs, no bug was counted.
    void TearDown() override {
        EXPECT_EQ(Client(server_.port()).ask("POST", chat, hello).status, 200);
        EXPECT_TRUE(server_.becomes_idle());
    }
    Reply post(const std::string& body, const std::string& path = chat) {
        return Client(server_.port()).ask("POST", path, body);
    }
    TestServer server_;
};

TEST_F(FaultTest, BodiesThatAreNoRequests) {
    for (const std::string body : {"", "{", "nonsense", "[]", "3", "null", "\"x\"", "{\"messages\":NaN}",
                                   "{\"a\":\"\xff\"}", "{\"a\":\"\\ud800\"}", "{\"a\":1e999}"}) {
        const Reply r = post(body);
        EXPECT_EQ(r.status, 400) << body << r.body;
        EXPECT_EQ(r.code(), "invalid_json") << body << r.body;
        for (const char* key : {"message", "type", "param", "code"})
            EXPECT_TRUE(r.json()["error"].contains(key));
    }
    EXPECT_EQ(post(std::string(100000, '[')).code(), "invalid_json");
    EXPECT_NE(post(std::string(100000, '[')).body.find("deeper than 64"), std::string::npos);
    EXPECT_EQ(post(R"({"messages":[{"role":"user","content":"a\u0000b"}],"max_tokens":1})").status, 200);
    EXPECT_EQ(
        post(R"({"messages":[{"role":"user","content":"a"}],"seed":12345678901234567890123456})").param(),
        "seed");
    EXPECT_EQ(
        post(R"({"messages":[{"role":"user","content":"a"}],"max_tokens":2147483647,"ignore_eos":true})")
            .json()["choices"][0]["finish_reason"],
        "length");
}

TEST_F(FaultTest, MessagesThatAreWrong) {
    const std::vector<std::array<std::string, 3>> cases = {
        {R"({})", "messages", "missing_required_parameter"},
        {R"({"messages":[]})", "messages", "invalid_value"},
        {R"({"messages":[{"role":"wizard","content":"a"}]})", "messages[0].role", "invalid_value"},
        {R"({"messages":[{"content":"a"}]})", "messages[0].role", "missing_required_parameter"},
        {R"({"messages":[{"role":"user","content":5}]})", "messages[0].content", "invalid_type"},
        {R"({"messages":[{"role":"user","content":null}]})", "messages[0].content", "invalid_type"},
        {R"({"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"file:///etc/passwd"}}]}]})",
         "messages[0].content[0].image_url.url", "unsupported_content"},
        {R"({"messages":[{"role":"user","content":"a"}],"tools":[{}]})", "tools[0].type",
         "missing_required_parameter"},
        {R"({"messages":[{"role":"user","content":"a"}],"response_format":{"type":"poem"}})",
         "response_format.type", "invalid_value"},
        {R"({"messages":[{"role":"user","content":"a"}],"chat_template":"{{1}}"})", "chat_template",
         "not_supported"},
        {R"({"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":{"messages":[]}})",
         "chat_template_kwargs.messages", "invalid_value"},
        {R"({"messages":[{"role":"user","content":"a"}],"logit_bias":{"99999999":1}})", "logit_bias",
         "invalid_value"},
        {R"({"messages":[{"role":"user","content":"a"}],"min_tokens":5,"max_tokens":2})", "min_tokens",
         "invalid_value"},
        {R"({"messages":[{"role":"user","content":"a"}],"top_logprobs":2})", "top_logprobs", "invalid_value"},
        {R"({"messages":[{"role":"user","content":"a"}],"stream_options":{"include_usage":true}})",
         "stream_options", "invalid_value"},
    };
    for (const auto& [body, param, code] : cases) {
        const Reply r = post(body);
        EXPECT_EQ(r.status, 400) << body << r.body;
        EXPECT_EQ(r.param(), param) << body << r.body;
        EXPECT_EQ(r.code(), code) << body << r.body;
    }
}

TEST_F(FaultTest, PromptsBeyondTheContextAreRefusedWithBothNumbers) {
    std::string text;
    for (int i = 0; i < 3000; ++i) text += "word ";
    for (const char* stream : {"false", "true"}) {
        const Reply r =
            post(R"({"messages":[{"role":"user","content":")" + text + R"("}],"stream":)" + stream + "}");
        EXPECT_EQ(r.status, 400);
        EXPECT_EQ(r.code(), "context_length_exceeded");
        EXPECT_NE(r.body.find("1024"), std::string::npos) << r.body;
    }
}

TEST_F(FaultTest, HttpThatIsNoneIsRefusedAndTheConnectionEnds) {
    const std::string host = "Host: localhost\r\n";
    struct Case {
        std::string bytes;
        int status;
    };
    const std::vector<Case> cases = {
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
        {"GET /health HTTP/1.1\r\n\r\n", 400},                     // no Host
        {"GET /health HTTP/1.1\r\n" + host + host + "\r\n", 400},  // two
        {"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n", 400},
        {"GET health HTTP/1.1\r\n" + host + "\r\n", 400},
        {"POST " + chat + " HTTP/1.1\r\n" + host + "Content-Length: -5\r\n\r\n", 400},
        {"POST " + chat + " HTTP/1.1\r\n" + host + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
         400},
        {"POST " + chat + " HTTP/1.1\r\n" + host +
             "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
         400},
        {"POST " + chat + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nZZZ\r\n", 400},
        {"POST " + chat + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n-2\r\n", 400},
        {"POST " + chat + " HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\n",
         400},
        {"POST " + chat + " HTTP/1.1\r\n" + host + "Content-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
         415},
        {std::string("GET /") + std::string(100'000, 'a') + " HTTP/1.1\r\n" + host + "\r\n", 414},
        {"GET / HTTP/1.1\r\n" + host + "X: " + std::string(1'000'000, 'a') + "\r\n\r\n", 431},
    };
    for (const Case& c : cases) {
        Client client(server_.port());
        client.send(c.bytes);
        const Reply r = client.read_reply();
        EXPECT_EQ(r.status, c.status) << c.bytes.substr(0, 120) << r.body;
        if (r.status != 0) {
            EXPECT_TRUE(r.json().contains("error")) << r.body;
        }
        EXPECT_TRUE(client.closed_by_server(5)) << c.bytes.substr(0, 120);
    }
    std::string many = "GET /health HTTP/1.1\r\n" + host;
    for (int i = 0; i < 1000; ++i) many += "a: b\r\n";
    Client client(server_.port());
    client.send(many + "\r\n");
    EXPECT_EQ(client.read_reply().status, 431);
}

TEST_F(FaultTest, PathsMethodsHostsAndOrigins) {
    Client client(server_.port());
    EXPECT_EQ(client.ask("GET", "/v1/nothing").status, 404);
    const Reply wrong = client.ask("GET", chat);
    EXPECT_EQ(wrong.status, 405);
    EXPECT_EQ(wrong.header("allow"), "POST");
    EXPECT_EQ(client.ask("GET", "/../../etc/passwd").status, 404);
    EXPECT_EQ(client.ask("GET", "/%2e%2e/%00").status, 404);
    EXPECT_EQ(client.ask("GET", "/health", "", "Host: evil.example\r\n").code(), "host_not_allowed");
    EXPECT_EQ(client.ask("GET", "/health", "", "Host: 127.0.0.1:1\r\n").status, 200);
    const std::string foreign = "Host: localhost\r\nOrigin: https://evil.example\r\n";
    EXPECT_EQ(Client(server_.port()).ask("POST", chat, hello, foreign).code(), "origin_not_allowed");
    const Reply preflight = client.ask("OPTIONS", chat, "", foreign);
    EXPECT_EQ(preflight.header("Access-Control-Allow-Origin"), "");
    EXPECT_EQ(client.ask("GET", "/health", "", foreign).header("Access-Control-Allow-Origin"), "");
    EXPECT_EQ(client.ask("POST", "/admin/unload", R"({"name":"demo-5m"})").code(), "feature_disabled");
}

TEST_F(FaultTest, BodiesBeyondTheLimitAreNotRead) {
    Client declared(server_.port());
    declared.send("POST " + chat + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 67108864\r\n\r\n");
    EXPECT_EQ(declared.read_reply().code(), "request_too_large");
    Client chunked(server_.port());
    chunked.send("POST " + chat + " HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    const std::string chunk = "10000\r\n" + std::string(65536, ' ') + "\r\n";
    for (int i = 0; i < 64 && chunked.send(chunk); ++i) {
    }
    EXPECT_EQ(chunked.read_reply().status, 413);
}

TEST_F(FaultTest, UnfinishedRequestsEndAtTheirDeadlines) {
    Client head(server_.port()), body(server_.port()), cut(server_.port());
    head.send("POST " + chat + " HTTP/1.1\r\nHost: loc");
    body.send("POST " + chat + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
    cut.send("POST " + chat + " HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{");
    cut.finish_sending();
    EXPECT_EQ(cut.read_reply().status, 400);
    EXPECT_EQ(head.read_reply().code(), "request_timeout");
    EXPECT_EQ(body.read_reply().code(), "request_timeout");
    EXPECT_EQ(server_.model().metrics.accepted, 0u);
}

TEST_F(FaultTest, ManyHalfOpenConnectionsHinderNobody) {
    std::vector<std::unique_ptr<Client>> crowd;
    for (int i = 0; i < 400; ++i) {
        crowd.push_back(std::make_unique<Client>(server_.port()));
        crowd.back()->send("GET /hea");
    }
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Client(server_.port()).ask("GET", "/health").status, 200);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 2s * patience);
    for (auto& c : crowd) EXPECT_EQ(c->read_reply().status, 408);
}

TEST_F(FaultTest, OneByteAtATimeIsARequestToo) {
    Client client(server_.port());
    for (const char c : Client::request("GET", "/health")) client.send({&c, 1});
    EXPECT_EQ(client.read_reply().status, 200);
}

TEST_F(FaultTest, PipelinedRequestsAreAnsweredInOrder) {
    Client client(server_.port());
    client.send(Client::request("GET", "/v1/models") + Client::request("POST", chat, hello) +
                Client::request("GET", "/nothing"));
    EXPECT_EQ(client.read_reply().status, 200);
    EXPECT_EQ(client.read_reply().status, 200);
    EXPECT_EQ(client.read_reply().status, 404);
}

TEST_F(FaultTest, AClientThatVanishesFreesItsSequenceAndChangesNobodysText) {
    const std::string plain =
        R"({"prompt":"The capital of","max_tokens":300,"ignore_eos":true,"temperature":0})";
    const Json alone = post(plain, "/v1/completions").json()["choices"];
    for (const bool stream : {true, false}) {
        Client leaver(server_.port());
        std::string request = long_stream;
        if (!stream) request.replace(request.find("\"stream\":true"), 13, "\"stream\":false");
        leaver.send(Client::request("POST", "/v1/completions", request));
        if (stream) {
            ASSERT_TRUE(leaver.receive_until("data: "));
        } else {
            for (int i = 0; i < 500 * patience && server_.model().outstanding == 0; ++i)
                std::this_thread::sleep_for(2ms);
        }
        Client other(server_.port());
        other.send(Client::request("POST", "/v1/completions", plain));
        leaver.close();
        EXPECT_EQ(other.read_reply().json()["choices"], alone);
    }
    ASSERT_TRUE(server_.becomes_idle());
    const std::lock_guard lock(server_.model().metrics.mutex);
    EXPECT_GE(server_.model().metrics.cancelled, 1u);
}

// 4 KB an event: far more than the socket and the buffer hold.
TEST_F(FaultTest, AClientThatDoesNotReadIsCutAndOthersAreServed) {
    Client lazy(server_.port(), 4096);
    lazy.send(Client::request(
        "POST", chat,
        R"({"messages":[{"role":"user","content":"a"}],"max_tokens":900,"ignore_eos":true,"n":4,"stream":true,"logprobs":true,"top_logprobs":20})"));
    ASSERT_TRUE(lazy.receive_until("data: "));
    const auto start = std::chrono::steady_clock::now();
    EXPECT_EQ(Client(server_.port()).ask("GET", "/health").status, 200);
    EXPECT_LT(std::chrono::steady_clock::now() - start, 1s * patience);
    EXPECT_EQ(post(hello).status, 200);
    EXPECT_TRUE(server_.becomes_idle());
    const std::lock_guard lock(server_.model().metrics.mutex);
    EXPECT_EQ(server_.model().metrics.cancelled, 1u);
}

TEST_F(FaultTest, AFullQueueAnswersWithRetryAfter) {
    TestServer small({.max_queue = 2, .max_seqs = 1});
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 12; ++i) {
        clients.push_back(std::make_unique<Client>(small.port()));
        clients.back()->send(Client::request("POST", "/v1/completions",
                                             R"({"prompt":"a","max_tokens":200,"ignore_eos":true})"));
    }
    int n_ok = 0, n_full = 0;
    for (auto& c : clients) {
        const Reply r = c->read_reply();
        n_ok += r.status == 200;
        if (r.status == 503) {
            ++n_full;
            EXPECT_EQ(r.code(), "server_overloaded");
            EXPECT_EQ(r.header("retry-after"), "1");
        }
    }
    EXPECT_EQ(n_ok + n_full, 12);
    EXPECT_GE(n_full, 1);
    EXPECT_GE(n_ok, 2);
}

TEST_F(FaultTest, ManyAtOnceAreAllAnswered) {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 100; ++i) {
        clients.push_back(std::make_unique<Client>(server_.port()));
        clients.back()->send(Client::request("POST", chat, hello));
    }
    for (auto& c : clients) EXPECT_EQ(c->read_reply().status, 200);
}

TEST(Keys, EveryRouteButTheOpenOnesNeedsOne) {
    TestServer server({.access = {.api_keys = {"secret-key"}, .admin_keys = {"admin-key"}}});
    for (const Route& route : routes()) {
        Client client(server.port());
        const auto status = [&](const std::string& header) {
            return Client(server.port())
                .ask(route.method, route.path, "{}", "Host: localhost\r\n" + header)
                .status;
        };
        if (route.access == Access::open) {
            // A path with a variable part names nothing as it stands.
            const bool is_pattern = std::string_view(route.path).find('{') != std::string_view::npos;
            EXPECT_EQ(status(""), is_pattern ? 404 : 200) << route.path;
            continue;
        }
        for (const char* wrong :
             {"", "Authorization: Bearer\r\n", "Authorization: Bearer secret-ke\r\n",
              "Authorization: Bearer secret-keysecret-key\r\n", "Authorization: Basic secret-key\r\n",
              "Authorization: Bearer secret-key\r\nAuthorization: Bearer secret-key\r\n"}) {
            EXPECT_EQ(status(wrong), 401) << route.path << wrong;
        }
        const bool admin = route.access == Access::admin;
        EXPECT_EQ(status("Authorization: Bearer secret-key\r\n") == 401, admin) << route.path;
        EXPECT_EQ(status("authorization: bearer secret-key\r\n") == 401, admin) << route.path;
        EXPECT_EQ(status("X-Api-Key: secret-key\r\n") == 401, admin) << route.path;
        EXPECT_NE(status("Authorization: Bearer admin-key\r\n"), 401) << route.path;
    }
}

// Even if one came past the checks of the command line, in either list and beside real ones.
TEST(Keys, AnEmptyOneOpensNothing) {
    TestServer server({.access = {.api_keys = {"", "real-key"}, .admin_keys = {""}}});
    for (const char* none :
         {"", "Authorization: Bearer\r\n", "Authorization: Bearer \r\n", "X-Api-Key:\r\n"}) {
        const std::string headers = std::string("Host: localhost\r\n") + none;
        EXPECT_EQ(Client(server.port()).ask("GET", "/v1/models", "", headers).status, 401) << none;
        EXPECT_EQ(Client(server.port()).ask("POST", "/admin/load", "{}", headers).status, 401) << none;
    }
    EXPECT_EQ(Client(server.port())
                  .ask("GET", "/v1/models", "", "Host: localhost\r\nX-Api-Key: real-key\r\n")
                  .status,
              200);
}

TEST(Admin, ModelsComeAndGo) {
    TestServer server({.access = {.admin_keys = {"k"}}});
    const std::string key = "Host: localhost\r\nAuthorization: Bearer k\r\n";
    Client client(server.port());
    const std::string load = R"({"name":"second","path":")" SMELT_MODELS R"(/demo-5m"})";
    EXPECT_EQ(client.ask("POST", "/admin/load", load, key).status, 200);
    EXPECT_EQ(client.ask("POST", "/admin/load", load, key).code(), "model_invalid");
    EXPECT_EQ(client.ask("POST", "/admin/load", R"({"name":"x","path":"/nonexistent"})", key).code(),
              "model_invalid");
    EXPECT_EQ(
        client.ask("POST", "/v1/completions", R"({"model":"second","prompt":"a","max_tokens":1})").status,
        200);
    EXPECT_EQ(client.ask("POST", "/admin/unload", R"({"name":"second"})", key).status, 200);
    EXPECT_EQ(client.ask("POST", "/admin/unload", R"({"name":"second"})", key).status, 404);
    EXPECT_EQ(
        client.ask("POST", "/v1/completions", R"({"model":"second","prompt":"a","max_tokens":1})").status,
        404);
}

TEST(Cors, AllowedOriginsGetTheirHeaders) {
    TestServer server({.access = {.cors_origins = {"https://good.example"}}});
    const std::string good = "Host: localhost\r\nOrigin: https://good.example\r\n";
    Client client(server.port());
    EXPECT_EQ(client.ask("OPTIONS", chat, "", good).header("Access-Control-Allow-Origin"),
              "https://good.example");
    EXPECT_EQ(client.ask("POST", chat, hello, good).status, 200);
    const std::string other = "Host: localhost\r\nOrigin: https://goodXexample\r\n";
    EXPECT_EQ(client.ask("POST", chat, hello, other).status, 403);
    const Reply asked = Client(server.port()).ask("OPTIONS", chat, "", other);
    EXPECT_EQ(asked.status, 200);
    EXPECT_EQ(asked.header("Access-Control-Allow-Origin"), "") << "so the browser does not go on";
}

TEST(Cors, LocalhostIsEveryPageOfThisMachine) {
    TestServer server({.access = {.cors_origins = {"localhost"}}});
    Client client(server.port());
    const auto allowed = [&](const std::string& origin) {
        return client.ask("OPTIONS", chat, "", "Host: localhost\r\nOrigin: " + origin + "\r\n")
            .header("Access-Control-Allow-Origin");
    };
    for (const char* origin : {"http://localhost", "http://localhost:3000", "https://127.0.0.1:8443",
                               "http://127.9.9.9", "http://[::1]", "http://[::1]:3000"}) {
        EXPECT_EQ(allowed(origin), origin);
    }
    for (const char* origin : {"http://web.example", "http://notlocalhost", "http://localhost.evil.example",
                               "http://127.0.0.1.evil.example", "null", "http://[::1].evil.example",
                               "http://localhost@evil.example", "http://"}) {
        EXPECT_EQ(allowed(origin), "") << origin;
    }
}

TEST(Strict, UnknownFieldsAreRefusedOnlyThen) {
    const std::string body =
        R"({"messages":[{"role":"user","content":"Hello"}],"max_tokens":2,"colour":"blue"})";
    TestServer lenient, strict({.strict = true});
    const Reply taken = Client(lenient.port()).ask("POST", chat, body);
    EXPECT_EQ(taken.status, 200);
    EXPECT_EQ(taken.json()["warnings"][0], "colour: no such parameter, ignored");
    EXPECT_EQ(Client(strict.port()).ask("POST", chat, body).code(), "unknown_parameter");
}

TEST(Shutdown, IdleAtOnceAndRunningStreamsToTheirEnd) {
    TestServerOptions options;
    options.limits.drain_timeout *= patience;
    TestServer server(options);
    Client idle(server.port()), streaming(server.port());
    EXPECT_EQ(idle.ask("GET", "/health").status, 200);
    streaming.send(Client::request("POST", "/v1/completions", long_stream));
    ASSERT_TRUE(streaming.receive_until("data: "));
    server.begin_stop();
    EXPECT_TRUE(idle.closed_by_server(2));
    const Reply r = streaming.read_reply();
    EXPECT_NE(r.body.find("\"finish_reason\":\"length\""), std::string::npos);
    EXPECT_TRUE(r.body.ends_with("data: [DONE]\n\n"));
    EXPECT_EQ(server.stop(), 0);
}

TEST(Shutdown, TheDrainDeadlineEndsStreamsWithAnError) {
    TestServerOptions options;
    options.limits.drain_timeout = 50ms;
    options.models = {"demo-23m"};
    TestServer server(options);
    Client streaming(server.port());
    streaming.send(Client::request("POST", "/v1/completions", long_stream));
    ASSERT_TRUE(streaming.receive_until("data: "));
    server.begin_stop();
    const Reply r = streaming.read_reply();
    EXPECT_NE(r.body.find("shutting_down"), std::string::npos)
        << r.body.substr(r.body.size() - std::min<size_t>(r.body.size(), 300));
    EXPECT_TRUE(r.body.ends_with("data: [DONE]\n\n"));
}

}  // namespace
}  // namespace smelt
