// Several models and several copies of one: replicas, idle unloading, roles, keys, the queue's order.
#include <gtest/gtest.h>

#include "server/client.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;

const std::string path = "/v1/completions";

ModelSpec spec(const std::string& name, const std::string& model) {
    return {.name = name,
            .path = bundled(model),
            .open = {.kv_tokens = 8192, .engine = {.scheduler = {.max_seqs = 4}}}};
}

TestServerOptions only(ModelSpec s) {
    TestServerOptions o;
    o.models = {};
    o.specs = {std::move(s)};
    return o;
}

Json ask(TestServer& server, Json body, const std::string& key = "") {
    const std::string headers =
        "Host: localhost\r\n" + (key.empty() ? "" : "Authorization: Bearer " + key + "\r\n");
    const Reply r = Client(server.port()).ask("POST", path, to_string(body), headers);
    Json answer = r.json();
    answer["status"] = r.status;
    return answer;
}

std::string long_text(int salt) {
    std::string text;
    for (int i = 0; i < 60; ++i) text += fmt::format("number {} ", i * salt);
    return text;
}

TEST(Replicas, ShareTheFileAndTheLoad) {
    ModelSpec s = spec("m", "demo-5m");
    s.replicas = 3;
    TestServer server(only(s));
    const auto loaded = server.model().loaded();
    ASSERT_EQ(loaded->n_replicas(), 3);
    // Twelve at once over 3 times 4 seats: all run at the same time.
    const Json body = {{"prompt", "a"}, {"max_tokens", 400}, {"ignore_eos", true}, {"temperature", 0}};
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 12; ++i) {
        clients.push_back(std::make_unique<Client>(server.port()));
        clients.back()->send(Client::request("POST", path, to_string(body)));
    }
    int most = 0;
    for (int i = 0; i < 2000 * patience && most < 12; ++i) {
        most = std::max(most, loaded->stats().n_running);
        std::this_thread::sleep_for(1ms);
    }
    EXPECT_EQ(most, 12);
    std::string text;
    for (auto& c : clients) {
        const Json answer = c->read_reply().json();
        if (text.empty()) text = answer["choices"][0]["text"];
        EXPECT_EQ(answer["choices"][0]["text"], text);
    }
    EXPECT_EQ(server.model().weight_bytes, static_cast<int64_t>(loaded->weight_bytes()));
}

TEST(Replicas, AConversationStaysWhereItIsCached) {
    ModelSpec s = spec("m", "demo-5m");
    s.replicas = 3;
    TestServer server(only(s));
    for (int salt = 1; salt <= 6; ++salt) {
        const Json body = {{"prompt", long_text(salt)}, {"max_tokens", 2}};
        const auto n_cached = [&] {
            return ask(server, body)["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
        };
        n_cached();
        for (int again = 0; again < 3; ++again) EXPECT_GT(n_cached(), 100) << salt;
    }
}

TEST(Idle, ModelsAreUnloadedAndComeBackForTheNextRequest) {
    ModelSpec s = spec("m", "demo-5m");
    s.idle_unload = 1s;
    TestServer server(only(s));
    const Json body = {{"prompt", "a"}, {"max_tokens", 3}, {"temperature", 0}};
    const std::string text = ask(server, body)["choices"][0]["text"];
    for (int i = 0; i < 400 * patience && server.model().loaded(); ++i) std::this_thread::sleep_for(10ms);
    ASSERT_EQ(server.model().loaded(), nullptr);
    EXPECT_EQ(Client(server.port()).ask("GET", "/health").json()["models"][0]["status"], "idle");
    EXPECT_EQ(Client(server.port()).ask("GET", "/v1/models").json()["data"].size(), 1u);
    EXPECT_EQ(Client(server.port()).ask("GET", "/performance").json()["models"][0]["memory"]["kv_bytes"], 0);
    EXPECT_EQ(Client(server.port()).ask("GET", "/metrics").status, 200);
    EXPECT_EQ(Client(server.port()).ask("GET", "/models").json()["models"][0]["state"], "idle");
    // Several wake it at once; each gets an answer, or is told to come back.
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(std::make_unique<Client>(server.port()));
        clients.back()->send(Client::request("POST", path, to_string(body)));
    }
    int n_answered = 0;
    for (auto& c : clients) {
        const Reply r = c->read_reply();
        if (r.status == 503) {
            EXPECT_EQ(r.code(), "model_loading");
            EXPECT_EQ(r.header("retry-after"), "1");
            continue;
        }
        ++n_answered;
        EXPECT_EQ(r.json()["choices"][0]["text"], text);
    }
    EXPECT_GE(n_answered, 1);
    // What was counted before is not forgotten.
    const std::lock_guard lock(server.model().metrics.mutex);
    EXPECT_EQ(server.model().metrics.accepted, static_cast<uint64_t>(1 + n_answered));
}

TEST(Idle, ARequestThatLastsLongerKeepsItsModel) {
    ModelSpec s = spec("m", "demo-23m");
    s.idle_unload = 1s;
    TestServer server(only(s));
    const auto start = std::chrono::steady_clock::now();
    const Json answer = ask(server, {{"prompt", "a"}, {"max_tokens", 900}, {"ignore_eos", true}, {"n", 4}});
    EXPECT_EQ(answer["usage"]["completion_tokens"], 3600);
    // Otherwise nothing was tested.
    if (std::chrono::steady_clock::now() - start > 1500ms) {
        EXPECT_NE(server.model().loaded(), nullptr);
    }
}

TEST(Roles, ChooseForSpeedAndQuality) {
    TestServerOptions o;
    o.models = {};
    o.specs = {spec("a", "demo-23m"), spec("b", "demo-5m"), spec("c", "demo-5m")};
    o.specs[0].fast = true;  // though others measure faster
    o.specs[1].best = true;  // though another has more weights
    TestServer server(o);
    const auto chosen = [&](const char* priority) {
        return ask(server,
                   {{"model", "auto"}, {"priority", priority}, {"prompt", "a"}, {"max_tokens", 1}})["model"];
    };
    EXPECT_EQ(chosen("speed"), "a");
    EXPECT_EQ(chosen("quality"), "b");
}

TEST(Keys, ModelsOfTheirOwn) {
    TestServerOptions o;
    o.models = {"demo-5m"};
    o.specs = {spec("private", "demo-5m")};
    o.specs[0].keys = {"insider"};
    o.access.api_keys = {"insider", "guest"};
    TestServer server(o);
    const Json body = {{"model", "private"}, {"prompt", "a"}, {"max_tokens", 1}};
    EXPECT_EQ(ask(server, body, "insider")["status"], 200);
    const Json refused = ask(server, body, "guest");
    EXPECT_EQ(refused["status"], 403);
    EXPECT_EQ(refused["error"]["code"], "model_not_allowed");
    for (const char* priority : {"speed", "quality", "balanced"}) {
        EXPECT_EQ(ask(server, {{"model", "auto"}, {"priority", priority}, {"prompt", "a"}, {"max_tokens", 1}},
                      "guest")["model"],
                  "demo-5m");
    }
}

TEST(PrefixCache, BelongsToAnApiKeyUnlessItIsShared) {
    for (const bool shared : {false, true}) {
        TestServerOptions o;
        o.access.api_keys = {"one", "two"};
        o.shared_prefix_cache = shared;
        TestServer server(o);
        const Json body = {{"prompt", long_text(1)}, {"max_tokens", 1}};
        const auto n_cached = [&](const char* key) {
            return ask(server, body, key)["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
        };
        EXPECT_EQ(n_cached("one"), 0);
        EXPECT_GT(n_cached("one"), 100);
        EXPECT_EQ(n_cached("two") > 0, shared);
        EXPECT_GT(n_cached("two"), 100);
    }
}

// One seat, a queue of background work: whoever asks now is next, and the background is done all the same.
TEST(Queue, InteractiveGoesBeforeBackground) {
    ModelSpec s = spec("m", "demo-5m");
    s.open.engine.scheduler.max_seqs = 1;
    TestServer server(only(s));
    std::vector<std::unique_ptr<Client>> background;
    for (int i = 0; i < 10; ++i) {
        background.push_back(std::make_unique<Client>(server.port()));
        Json body = {{"prompt", "a"}, {"max_tokens", 300}, {"ignore_eos", true}};
        i % 2 == 0 ? body["priority"] = "background" : body["service_tier"] = "flex";
        background.back()->send(Client::request("POST", path, to_string(body)));
    }
    for (int i = 0; i < 1000 * patience && server.model().outstanding < 10; ++i)
        std::this_thread::sleep_for(2ms);
    EXPECT_EQ(ask(server, {{"prompt", "b"}, {"max_tokens", 5}, {"priority", "interactive"}})["status"], 200);
    {
        const std::lock_guard lock(server.model().metrics.mutex);
        EXPECT_LT(server.model().metrics.completed, 8u);
    }
    for (auto& c : background) EXPECT_EQ(c->read_reply().json()["usage"]["completion_tokens"], 300);
}

}  // namespace
}  // namespace smelt
