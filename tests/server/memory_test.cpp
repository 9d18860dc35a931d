// One account over bodies, messages, token lists and answers: what one client holds is bounded, what is too
// much is refused before it is made, and memory goes back.
#include <fstream>
#include <thread>

#include "server/api_fixture.h"
#include "server/http/memory_account.h"
#include "server/socket.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;

TEST(MemoryAccount, AClientHasHalfAndAllHaveTheWhole) {
    MemoryAccount account(100);
    MemoryShare a(account, "a"), also_a(account, "a"), b(account, "b"), c(account, "c");
    EXPECT_EQ(a.add(51), Held::never);
    EXPECT_EQ(a.add(40), Held::yes);
    EXPECT_EQ(also_a.add(11), Held::later);
    EXPECT_EQ(also_a.add(10), Held::yes);
    EXPECT_EQ(b.resize(45), Held::yes);
    EXPECT_EQ(c.add(6), Held::later);
    EXPECT_EQ(c.add(5), Held::yes);
    EXPECT_EQ(account.used(), 100u);
    EXPECT_EQ(a.resize(41), Held::later);
    EXPECT_EQ(a.resize(51), Held::never);
    EXPECT_EQ(a.resize(10), Held::yes);
    EXPECT_EQ(c.add(30), Held::yes);
    { const MemoryShare gone(account, "d"); }
    for (MemoryShare* s : {&a, &also_a, &b, &c}) EXPECT_EQ(s->resize(0), Held::yes);
    EXPECT_EQ(account.used(), 0u);
    EXPECT_FALSE(account.freed_much());
}

TEST(MemoryAccount, ManyThreadsLeaveNothingBehind) {
    MemoryAccount account(1000);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([&account, t] {
            for (size_t i = 0; i < 5000; ++i) {
                MemoryShare share(account, std::string(1, static_cast<char>('a' + t % 2)));
                share.add(i % 300);
                share.resize(i % 70);
                EXPECT_LE(account.used(), 1000u);
            }
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(account.used(), 0u);
}

size_t resident_bytes() {
    std::ifstream statm("/proc/self/statm");
    size_t pages = 0;
    statm >> pages >> pages;
    return pages * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}
constexpr size_t mib = size_t{1} << 20;

std::string head(size_t n_body, const std::string& key, const std::string& path = "/v1/completions") {
    return fmt::format(
        "POST {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n", path,
        key, n_body);
}

// 2,048 vectors are more than their texts.
TEST(Memory, VectorsCountBeforeTheyAreMade) {
    TestServerOptions options;
    options.limits.max_memory_bytes = 8 * mib;
    TestServer server(options);
    Json texts = Json::array();
    for (int i = 0; i < 2000; ++i) texts.push_back("a");
    const Reply r = Client(server.port()).ask("POST", "/v1/embeddings", to_string(Json{{"input", texts}}));
    EXPECT_EQ(r.status, 413) << r.body.substr(0, 300);
    texts = Json::array({"a", "b"});
    EXPECT_EQ(Client(server.port()).ask("POST", "/v1/embeddings", to_string(Json{{"input", texts}})).status,
              200);
}

// Bodies that never end hold one client's half, and the other client is served.
TEST(Memory, UnfinishedBodiesOfOneKeyLeaveRoomForAnother) {
    TestServerOptions options;
    options.limits.max_memory_bytes = 2 * mib;
    options.access.api_keys = {"key-a", "key-b"};
    TestServer server(options);
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<Client>(server.port()));
        clients.back()->send(head(mib, "key-a") + std::string(300'000, ' '));
    }
    int n_refused = 0;
    for (const auto& c : clients) {
        if (!c->receive(1)) continue;
        const Reply r = c->read_reply();
        EXPECT_EQ(r.status, 503);
        EXPECT_EQ(r.code(), "server_overloaded");
        ++n_refused;
    }
    EXPECT_GE(n_refused, 4);
    const std::string body = to_string(Json{{"prompt", "1 + 1 ="}, {"max_tokens", 3}});
    Client other(server.port());
    other.send(head(body.size(), "key-b") + body);
    EXPECT_EQ(other.read_reply().status, 200);
    clients.clear();
    Client after(server.port());
    after.send(head(body.size(), "key-a") + body);
    EXPECT_EQ(after.read_reply().status, 200) << "what was held is given back";
}

// 60 connections with 16 MiB each that dripped took a gigabyte.
TEST(Memory, DrippingMessagesOfManySocketsAreBounded) {
    TestServerOptions options;
    options.limits.max_memory_bytes = 8 * mib;
    TestServer server(options);
    const size_t before = resident_bytes();
    std::vector<std::unique_ptr<Socket>> sockets;
    const std::string start = {'\x81', '\xff', 0, 0, 0, 0, 0, '\x80', 0, 0, 0, 0, 0, 0};  // 8 MiB to come
    for (int i = 0; i < 30; ++i) {
        sockets.push_back(std::make_unique<Socket>(server.port()));
        sockets.back()->raw(start + std::string(900'000, ' '));
    }
    std::this_thread::sleep_for(500ms);
    EXPECT_LT(resident_bytes(), before + 24 * mib * (patience > 1 ? 8 : 1));
    EXPECT_EQ(Client(server.port()).ask("GET", "/health").status, 200);
}

class MemoryTest : public ApiTest {};

TEST_F(MemoryTest, TokenizingWithPiecesWritesTextAndGivesMemoryBack) {
    std::string text;
    while (text.size() < 6 * mib) text += "a b \xf0\x9f\x98\x80 \"q\" 12345\n";
    const size_t before = resident_bytes();
    {
        const Reply small =
            post("/tokenize", {{"content", "a \"b\"\n"}, {"with_pieces", true}, {"model", "demo-5m"}});
        ASSERT_EQ(small.status, 200);
        std::string joined;
        const Json answer = small.json();
        for (const Json& t : answer["tokens"]) joined += t["piece"].get<std::string>();
        EXPECT_EQ(joined, "a \"b\"\n");
        EXPECT_EQ(small.json()["count"], small.json()["tokens"].size());
        EXPECT_EQ(small.json()["model"], "demo-5m");
    }
    const Json body = {{"content", text}, {"with_pieces", true}, {"model", "demo-5m"}};
    const Reply r = post("/tokenize", body);
    // Some 3 million tokens: 80 bytes each are more than a client's share.
    EXPECT_EQ(r.status, 413);
    EXPECT_EQ(r.code(), "request_too_large");
    const Reply ids = post("/tokenize", {{"content", text.substr(0, 2 * mib)}, {"model", "demo-5m"}});
    EXPECT_EQ(ids.status, 200);
    for (int i = 0; i < 50 && resident_bytes() > before + 60 * mib; ++i) std::this_thread::sleep_for(100ms);
    EXPECT_LT(resident_bytes(), before + 60 * mib * (patience > 1 ? 20 : 1));
}

// 128 KB came back as 156 MB and took 884 MiB.
TEST_F(MemoryTest, EchoedLogprobsOfManyAnswersAreRefusedBeforeTheyAreMade) {
    std::string prompt;
    for (int i = 0; i < 250; ++i) prompt += " 12";
    Json prompts = Json::array();
    for (int i = 0; i < 100; ++i) prompts.push_back(prompt);
    const Json body = {{"model", "demo-5m"}, {"prompt", prompts}, {"n", 16},        {"echo", true},
                       {"logprobs", 2},      {"max_tokens", 1},   {"stream", false}};
    const size_t before = resident_bytes();
    const Reply r = post("/v1/completions", body);
    EXPECT_GE(r.status, 400) << r.body.size();
    EXPECT_LT(r.body.size(), 1000u);
    EXPECT_LT(resident_bytes(), before + 60 * mib * (patience > 1 ? 20 : 1));
    Json one = body;
    one["prompt"] = prompt;
    one["n"] = 2;
    const Reply fine = post("/v1/completions", one);
    ASSERT_EQ(fine.status, 200) << fine.body;
    const Json answer = fine.json();
    ASSERT_EQ(answer["choices"].size(), 2u);
    for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(answer["choices"][i]["index"], i);
        EXPECT_GT(answer["choices"][i]["logprobs"]["tokens"].size(), 400u);
    }
    EXPECT_TRUE(answer.contains("usage"));
}

// Log-probabilities of the answer alone grow while it is made.
TEST(Memory, AnAnswerThatOutgrowsItsShareEnds) {
    TestServerOptions options;
    options.limits.max_memory_bytes = 600'000;
    TestServer server(options);
    const Json body = {{"prompt", "Count:"}, {"max_tokens", 400}, {"logprobs", 5}, {"ignore_eos", true}};
    const Reply r = Client(server.port()).ask("POST", "/v1/completions", to_string(body));
    EXPECT_EQ(r.status, 413);
    EXPECT_EQ(r.code(), "request_too_large");
    EXPECT_TRUE(server.becomes_idle());  // what it held is back
    Json streamed = body;
    streamed["logprobs"] = 1;
    streamed["max_tokens"] = 20;
    EXPECT_EQ(Client(server.port()).ask("POST", "/v1/completions", to_string(streamed)).status, 200);
    EXPECT_TRUE(server.becomes_idle());
}

// What a body becomes counts too, not its bytes alone: a value takes far more than its comma.
TEST(Memory, ManySmallValuesCountAsWhatTheyBecome) {
    TestServerOptions options;
    options.limits.max_memory_bytes = 8 * mib;
    TestServer server(options);
    std::string values = "[0";
    for (int i = 0; i < 100'000; ++i) values += ",0";
    const Reply r = Client(server.port())
                        .ask("POST", "/v1/completions", R"({"max_tokens": 1, "prompt": )" + values + "]}");
    EXPECT_EQ(r.status, 413) << r.body;
    EXPECT_EQ(r.code(), "request_too_large");
}

}  // namespace
}  // namespace smelt
