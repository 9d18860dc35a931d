// Many clients at once, and too little cache for them: all are answered, with the texts that each would get
// alone.
#include <gtest/gtest.h>

#include <sys/resource.h>

#include <filesystem>
#include <random>

#include "server/client.h"
#include "server/http/long_workers.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

const std::string path = "/v1/completions";

double seconds_since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
}

size_t n_threads() {
    const std::filesystem::directory_iterator tasks("/proc/self/task");
    return static_cast<size_t>(std::distance(begin(tasks), end(tasks)));
}

// 1024 tokens of cache for eight sequences that grow to 400: they take turns, and nobody's text changes.
TEST(Load, ACacheTooSmallForAllGivesEachItsOwnText) {
    TestServerOptions o;
    o.kv_tokens = 0;  // the context
    TestServer server(o);
    std::vector<std::string> bodies, alone;
    for (int i = 0; i < 8; ++i) {
        bodies.push_back(to_string(Json{{"prompt", fmt::format("Number {} is", i)},
                                        {"max_tokens", 390},
                                        {"ignore_eos", true},
                                        {"temperature", 0}}));
        alone.push_back(Client(server.port()).ask("POST", path, bodies.back()).json()["choices"][0]["text"]);
    }
    std::vector<std::unique_ptr<Client>> clients;
    for (const std::string& body : bodies) {
        clients.push_back(std::make_unique<Client>(server.port()));
        clients.back()->send(Client::request("POST", path, body));
    }
    for (size_t i = 0; i < clients.size(); ++i) {
        const Reply r = clients[i]->read_reply(60);
        ASSERT_EQ(r.status, 200);
        EXPECT_EQ(r.json()["choices"][0]["text"], alone[i]) << i;
    }
    EXPECT_GT(server.model().loaded()->stats().n_preemptions, 0);
    EXPECT_TRUE(server.becomes_idle());
}

// Prompts as long as the context, one after the other, and small requests beside them: each waits for the
// chunk that is under way and shares the next, four of which make a prompt.
TEST(Load, GiantPromptsDoNotStopSmallRequests) {
    TestServer server;
    std::atomic<bool> stop = false;
    std::vector<double> giants, smalls;
    std::thread giant([&] {
        std::mt19937 random(1);
        while (!stop) {
            Json ids = Json::array();
            for (int i = 0; i < 1000; ++i) ids.push_back(random() % 8000);
            const auto start = Clock::now();
            EXPECT_EQ(Client(server.port())
                          .ask("POST", path, to_string(Json{{"prompt", ids}, {"max_tokens", 1}}))
                          .status,
                      200);
            giants.push_back(seconds_since(start));
        }
    });
    for (int i = 0; i < 40; ++i) {
        const auto start = Clock::now();
        const std::string body =
            fmt::format(R"({{"prompt":"Hello there","max_tokens":1,"cache_salt":"{}"}})", i);
        EXPECT_EQ(Client(server.port()).ask("POST", path, body).status, 200);
        smalls.push_back(seconds_since(start));
    }
    stop = true;
    giant.join();
    const auto median = [](std::vector<double>& v) {
        std::ranges::sort(v);
        return v[v.size() / 2];
    };
    ASSERT_GT(giants.size(), 3u);
    EXPECT_LT(median(smalls), 0.75 * median(giants));
}

// One I/O thread, 2,000 connections that are open and idle, and then all of them ask.
TEST(Load, TwoThousandConnections) {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    constexpr int n_clients = 2000;
    if (limit.rlim_cur < 2 * n_clients + 100) GTEST_SKIP() << "too few file descriptors: " << limit.rlim_cur;
    TestServerOptions o;
    o.max_queue = 256;
    TestServer server(o);
    const size_t threads_before = n_threads();
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < n_clients; ++i) {
        clients.push_back(std::make_unique<Client>(server.port()));
        if (i % 2 == 0) clients.back()->send("POST " + path);  // half a head
    }
    for (int i = 0; i < 1000 * patience && server.n_connections() < n_clients; ++i)
        std::this_thread::sleep_for(5ms);
    EXPECT_EQ(server.n_connections(), static_cast<size_t>(n_clients));
    EXPECT_EQ(n_threads(), threads_before);
    const auto start = Clock::now();
    EXPECT_EQ(clients[1]->ask("GET", "/health").status, 200);
    EXPECT_LT(seconds_since(start), 0.5 * patience);
    const std::string request = Client::request("POST", path, R"({"prompt":"a","max_tokens":1})");
    for (int i = 0; i < n_clients; ++i) {
        clients[static_cast<size_t>(i)]->send(i % 2 == 0 ? request.substr(("POST " + path).size()) : request);
    }
    int n_ok = 0, n_full = 0;
    for (auto& c : clients) {
        const Reply r = c->read_reply(60);
        n_ok += r.status == 200;
        n_full += r.status == 503 && r.code() == "server_overloaded" && r.header("retry-after") == "1";
    }
    EXPECT_EQ(n_ok + n_full, n_clients);
    EXPECT_GE(n_ok, 256);
    EXPECT_EQ(server.context().metrics.received, static_cast<uint64_t>(n_clients));
    clients.clear();
    EXPECT_TRUE(server.becomes_idle());
    for (int i = 0; i < 1000 * patience && server.n_connections() > 0; ++i) std::this_thread::sleep_for(5ms);
    EXPECT_EQ(server.n_connections(), 0u);
}

TEST(LongWorkers, ClientsComeByTurns) {
    std::mutex mutex;
    std::condition_variable may_go;
    bool go = false;
    std::string order;
    {
        LongWorkers workers(1);
        workers.post("first", [&] {
            std::unique_lock lock(mutex);
            may_go.wait(lock, [&] { return go; });
        });
        const auto add = [&](const std::string& client, char mark) {
            workers.post(client, [&, mark] {
                const std::lock_guard lock(mutex);
                order += mark;
            });
        };
        for (int i = 0; i < 4; ++i) add("a", 'a');
        add("b", 'b');
        add("c", 'c');
        add("c", 'c');
        const std::lock_guard lock(mutex);
        go = true;
        may_go.notify_all();
    }
    EXPECT_EQ(order, "abcacaa");
}

// Forms that are dear, from many connections, hold neither chats without a form nor those whose form is
// known.
TEST(Load, FormsThatAreDearHoldNobodyElse) {
    TestServer server;
    Client client(server.port());
    const auto chat = [](const std::string& more) {
        return R"({"messages":[{"role":"user","content":"a"}],"max_tokens":1)" + more + "}";
    };
    const auto form = [&](const std::string& schema) {
        return chat(R"(,"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":)" +
                    schema + "}}");
    };
    const std::string known = form(R"({"type":"boolean"})");
    ASSERT_EQ(client.ask("POST", "/v1/chat/completions", known).status, 200);
    std::vector<std::thread> attackers;
    std::atomic<int> n_refused = 0;
    for (int i = 0; i < 12; ++i) {
        attackers.emplace_back([&, i] {
            Client hostile(server.port());
            const std::string pattern =
                fmt::format("^(?=.*a.{{14}})(?=.*b.{{14}})(?!.*c.{{{}}})[a-z]*$", 14 + i);
            const Reply r = hostile.ask("POST", "/v1/chat/completions",
                                        form(R"({"type":"string","pattern":")" + pattern + "\"}"));
            n_refused += r.status == 400 && r.code() == "invalid_schema";
        });
    }
    std::this_thread::sleep_for(50ms);
    const auto start = Clock::now();
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(client.ask("POST", "/v1/chat/completions", chat("")).status, 200);
        EXPECT_EQ(client.ask("POST", "/v1/chat/completions", known).status, 200);
    }
    EXPECT_LT(seconds_since(start), 3 * patience);
    for (std::thread& t : attackers) t.join();
    EXPECT_EQ(n_refused, 12);
}

std::string with_key(const std::string& route, const std::string& body, const std::string& key) {
    return Client::request("POST", route, body, "Host: localhost\r\nAuthorization: Bearer " + key + "\r\n");
}

// Key B got nothing for a minute, then 503, whatever its priority.
TEST(Load, AKeyThatFloodsDelaysNoOther) {
    TestServerOptions o;
    o.access.api_keys = {"key-a", "key-b"};
    o.max_queue = 64;
    TestServer server(o);
    const Json answer = {{"prompt", "b"}, {"max_tokens", 10}};
    const auto ask_b = [&] {
        const auto start = Clock::now();
        Client client(server.port());
        client.send(with_key("/v1/completions", to_string(answer), "key-b"));
        EXPECT_EQ(client.read_reply().status, 200);
        return seconds_since(start);
    };
    const double alone = ask_b();
    const Json flood = {{"prompt", "a long story"}, {"max_tokens", 400}, {"n", 16}, {"ignore_eos", true}};
    std::vector<std::unique_ptr<Client>> crowd;
    for (int i = 0; i < 128; ++i) {
        crowd.push_back(std::make_unique<Client>(server.port()));
        crowd.back()->send(with_key("/v1/completions", to_string(flood), "key-a"));
    }
    while (server.model().loaded()->stats().n_queued < 40)
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    for (int i = 0; i < 3; ++i) EXPECT_LT(ask_b(), 3 * patience + 40 * alone);
    EXPECT_GT(server.model().loaded()->stats().n_queued, 20) << "the flood was over anyway";
    crowd.clear();
    EXPECT_TRUE(server.becomes_idle());
}

// 256 of them held a chat of the same client for 29 seconds.
TEST(Load, TextsToEmbedDoNotHoldAQuestion) {
    TestServer server;
    Json texts = Json::array();
    for (int i = 0; i < 48; ++i) {
        std::string text = fmt::format("{} ", i);
        for (int k = 0; k < 60; ++k) text += fmt::format("word{} ", (i * 31 + k) % 997);
        texts.push_back(text);
    }
    Client many(server.port());
    many.send(Client::request("POST", "/v1/embeddings", to_string(Json{{"input", texts}})));
    while (server.model().loaded()->stats().n_prefilled == 0)
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    const auto start = Clock::now();
    const int64_t before = server.model().loaded()->stats().n_prefilled;
    EXPECT_EQ(
        Client(server.port()).ask("POST", "/v1/completions", R"({"prompt":"1+1=","max_tokens":1})").status,
        200);
    // What was computed meanwhile, in place of a time: some steps of 512 tokens.
    EXPECT_LT(server.model().loaded()->stats().n_prefilled - before, 8 * 512) << seconds_since(start);
    EXPECT_EQ(many.read_reply(120).status, 200);
}

// Whatever is in them, they cost a bounded time, and what cannot be enforced is refused.
TEST(Load, HostileSchemasAndGrammarsAreAnsweredInTime) {
    TestServer server;
    Client client(server.port());
    const auto expect = [&](int status, const std::string& field, const std::string& value) {
        const auto start = Clock::now();
        const Reply r = client.ask(
            "POST", "/v1/chat/completions",
            R"({"messages":[{"role":"user","content":"a"}],"max_tokens":1,")" + field + "\":" + value + "}");
        EXPECT_LT(seconds_since(start), 5 * patience) << value.substr(0, 100);
        EXPECT_EQ(r.status, status) << value.substr(0, 100) << r.body.substr(0, 300);
    };
    const auto schema = [](const std::string& s) {
        return R"({"type":"json_schema","json_schema":{"name":"x","schema":)" + s + "}}";
    };
    expect(400, "response_format", schema(R"({"type":5})"));
    expect(200, "response_format", schema(R"({"type":"string","pattern":"^(a+)+$"})"));
    expect(400, "response_format", schema(R"({"type":"string","pattern":"("})"));
    expect(400, "response_format", schema(R"({"$ref":"http://127.0.0.1:1/schema.json"})"));
    expect(400, "response_format", schema(R"({"$ref":"#"})"));
    // Counted, not unrolled.
    expect(200, "response_format", schema(R"({"type":"string","maxLength":1000000000})"));
    // Longer than the context at its shortest.
    expect(400, "response_format", schema(R"({"type":"string","minLength":1000000000})"));
    expect(400, "response_format", schema(R"({"type":"array","items":{"const":"abc"},"minItems":100000})"));
    // Each of these took seconds to minutes.
    std::string words;
    for (int i = 0; i < 100; ++i) words += fmt::format("{}\"w{}\"", i == 0 ? "" : ",", i);
    const std::string dear = R"("pattern":"^.*w.{14}$")";
    expect(400, "response_format", schema("{\"enum\":[" + words + "]," + dear + "}"));
    std::string members;
    for (int i = 0; i < 300; ++i) members += fmt::format("{}\"p{}\":true", i == 0 ? "" : ",", i);
    expect(400, "response_format",
           schema("{\"type\":\"object\",\"properties\":{" + members +
                  "},\"required\":[\"p0\"],\"propertyNames\":{" + dear + "}}"));
    expect(400, "response_format", schema(R"({"type":"integer","maximum":true})"));
    expect(400, "grammar", "\"root ::= " + std::string(50'000, '(') + "\"");
    for (int i = 0; i < 300; ++i) expect(200, "response_format", schema(fmt::format(R"({{"const":{}}})", i)));
}

}  // namespace
}  // namespace smelt
