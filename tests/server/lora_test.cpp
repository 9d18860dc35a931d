// LoRA adapters over HTTP: every spelling that chooses one, loading and unloading under requests, what is
// refused.
#include <gtest/gtest.h>

#include <random>

#include "files/files_support.h"
#include "server/client.h"

namespace smelt {
namespace {

// A PEFT adapter of two modules of each of demo-5m's layers.
void write_adapter(const fs::path& folder, uint32_t seed, int64_t rank = 4) {
    std::mt19937 random(seed);
    std::string data;
    Json header = Json::object();
    const auto add = [&](const std::string& name, int64_t rows, int64_t cols) {
        const size_t first = data.size();
        for (int64_t i = 0; i < rows * cols; ++i)
            append(data, (static_cast<float>(random() >> 8) / 16777216.0f - 0.5f) / 4);
        header["base_model.model.model.layers." + name] = {
            {"dtype", "F32"}, {"shape", {rows, cols}}, {"data_offsets", {first, data.size()}}};
    };
    for (int layer = 0; layer < 4; ++layer) {
        const std::string n = std::to_string(layer);
        add(n + ".self_attn.q_proj.lora_A.weight", rank, 256);
        add(n + ".self_attn.q_proj.lora_B.weight", 256, rank);
        add(n + ".mlp.down_proj.lora_A.weight", rank, 768);
        add(n + ".mlp.down_proj.lora_B.weight", 256, rank);
    }
    fs::create_directories(folder);
    write_file(folder / "adapter_model.safetensors", safetensors(header.dump(), data));
    write_file(folder / "adapter_config.json",
               Json{{"peft_type", "LORA"}, {"r", rank}, {"lora_alpha", 2 * rank}}.dump());
}

const std::string admin = "Host: localhost\r\nAuthorization: Bearer k\r\n";

class Lora : public testing::Test {
 protected:
    Lora() {
        write_adapter(folder_.path() / "one", 1);
        write_adapter(folder_.path() / "two", 2);
        write_adapter(folder_.path() / "wide", 3, 17);
        TestServerOptions o{.access = {.admin_keys = {"k"}}};
        o.models = {};
        o.specs = {{.name = "demo",
                    .path = bundled("demo-5m"),
                    .open = {.kv_tokens = 8192,
                             .engine = {.scheduler = {.max_seqs = 8}},
                             .max_adapters = 3,
                             .adapters = {{.name = "one", .path = folder_.path() / "one"},
                                          {.name = "two", .path = folder_.path() / "two", .scale = 0.5f}}}}};
        server_ = std::make_unique<TestServer>(o);
    }

    static Json body(const Json& more) {
        Json b = {{"prompt", "The capital of France is"},
                  {"max_tokens", 12},
                  {"ignore_eos", true},
                  {"temperature", 0},
                  {"logprobs", 1}};
        b.update(more);
        return b;
    }
    Reply post(const std::string& path, const Json& b, const std::string& headers = "Host: localhost\r\n") {
        return Client(server_->port()).ask("POST", path, to_string(b), headers);
    }
    // Text and log-probabilities, which show the smallest difference.
    Json ask(const Json& more) {
        const Reply r = post("/v1/completions", body(more));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json()["choices"];
    }
    Json models() { return Client(server_->port()).ask("GET", "/v1/models").json()["data"]; }
    Json load(const std::string& name, const std::string& folder, int status = 200) {
        const Reply r = post("/v1/load_lora_adapter",
                             {{"lora_name", name}, {"lora_path", (folder_.path() / folder).string()}}, admin);
        EXPECT_EQ(r.status, status) << r.body;
        return status == 200 ? Json(r.body) : r.json()["error"]["message"];
    }
    Reply unload(const std::string& name) {
        return post("/v1/unload_lora_adapter", {{"lora_name", name}}, admin);
    }

    TemporaryFolder folder_;
    std::unique_ptr<TestServer> server_;
};

Json lora(std::initializer_list<std::pair<int, double>> scales) {
    Json list = Json::array();
    for (const auto& [id, scale] : scales) list.push_back({{"id", id}, {"scale", scale}});
    return {{"lora", std::move(list)}};
}

TEST_F(Lora, EverySpellingChoosesTheSame) {
    const Json base = ask({{"model", "demo"}}), one = ask({{"model", "one"}}), two = ask({{"model", "two"}});
    EXPECT_NE(one, base);
    EXPECT_NE(two, base);
    EXPECT_NE(two, one);
    EXPECT_EQ(ask({{"model", "demo:one"}}), one);
    EXPECT_EQ(ask(lora({{0, 1}})), one);
    EXPECT_EQ(ask(lora({{1, 0.5}})), two);
    EXPECT_EQ(ask(lora({{1, 0}})), base);
    EXPECT_EQ(ask(lora({})), base);
    EXPECT_EQ(ask(Json::object()), base);
    EXPECT_NE(ask(lora({{0, 1}, {1, 0.5}})), one);
    EXPECT_NE(ask(lora({{0, 0.9}})), one);

    const Json question = {{"messages", Json::array({{{"role", "user"}, {"content", "Hello"}}})},
                           {"max_tokens", 8},
                           {"temperature", 0}};
    const auto chat = [&](const Json& more) {
        Json b = question;
        b.update(more);
        const Reply r = post("/v1/chat/completions", b);
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    };
    EXPECT_EQ(chat({{"model", "one"}})["model"], "one");
    EXPECT_EQ(chat({{"model", "demo:one"}})["choices"], chat(lora({{0, 1}}))["choices"]);
    Json native = {
        {"prompt", "The capital of France is"}, {"n_predict", 12}, {"ignore_eos", true}, {"temperature", 0}};
    native.update(lora({{0, 1}}));
    EXPECT_EQ(post("/completion", native).json()["content"], one[0]["text"]);
}

TEST_F(Lora, OneBatchAnswersEachAsAlone) {
    const std::vector<Json> asked = {
        {{"model", "one"}}, {{"model", "demo"}}, {{"model", "two"}}, lora({{0, 0.25}, {1, 1}})};
    std::vector<Json> alone;
    for (const Json& a : asked) alone.push_back(ask(a));
    for (int round = 0; round < 3; ++round) {
        std::vector<std::unique_ptr<Client>> clients;
        for (const Json& a : asked) {
            clients.push_back(std::make_unique<Client>(server_->port()));
            clients.back()->send(Client::request("POST", "/v1/completions", to_string(body(a))));
        }
        for (size_t i = 0; i < asked.size(); ++i)
            EXPECT_EQ(clients[i]->read_reply().json()["choices"], alone[i]) << i;
    }
}

TEST_F(Lora, ModelsListTheirAdapters) {
    const Json all = models();
    ASSERT_EQ(all.size(), 3u);
    EXPECT_EQ(all[1]["id"], "one");
    EXPECT_EQ(all[1]["parent"], "demo");
    EXPECT_EQ(all[1]["root"], (folder_.path() / "one").string());
    EXPECT_EQ(Client(server_->port()).ask("GET", "/v1/models/two").json()["parent"], "demo");
    const Json ids = Client(server_->port()).ask("GET", "/lora-adapters").json();
    ASSERT_EQ(ids.size(), 2u);
    EXPECT_EQ(ids[1]["id"], 1);
    EXPECT_EQ(ids[1]["path"], (folder_.path() / "two").string());
    EXPECT_EQ(ids[1]["scale"], 0.0);
}

TEST_F(Lora, TheUsualScalesAreForRequestsThatNameNone) {
    const Json base = ask(Json::object()), one = ask({{"model", "one"}});
    const std::string half = R"([{"id": 0, "scale": 1}])";
    EXPECT_EQ(Client(server_->port()).ask("POST", "/lora-adapters", half).status, 401);
    EXPECT_EQ(ask(Json::object()), base);
    EXPECT_EQ(Client(server_->port()).ask("POST", "/lora-adapters", half, admin).status, 200);
    EXPECT_EQ(ask(Json::object()), one);
    EXPECT_EQ(ask(lora({})), base);
    EXPECT_EQ(Client(server_->port()).ask("GET", "/lora-adapters").json()[0]["scale"], 1.0);
    EXPECT_EQ(Client(server_->port()).ask("POST", "/lora-adapters", "[]", admin).status, 200);
    EXPECT_EQ(ask(Json::object()), base);
}

TEST_F(Lora, AdaptersComeAndGoUnderRequests) {
    const Json one = ask({{"model", "one"}}), two = ask({{"model", "two"}});
    const Json all = ask(lora({{1, 1}}));
    Client running(server_->port());
    Json long_one = body({{"model", "two"}, {"max_tokens", 400}, {"stream", true}});
    running.send(Client::request("POST", "/v1/completions", to_string(long_one)));
    ASSERT_TRUE(running.receive_until("data: "));
    EXPECT_EQ(unload("two").status, 200);
    EXPECT_EQ(unload("two").status, 404);
    EXPECT_EQ(post("/v1/completions", body({{"model", "two"}})).status, 404);
    // While it is held, its place is not given away: there are three.
    EXPECT_NE(load("three", "two").get<std::string>().find("'three' added"), std::string::npos);
    EXPECT_EQ(ask({{"model", "three"}}), all);
    const std::string full = load("four", "one", 400).get<std::string>();
    EXPECT_NE(full.find("found all 3 (--max-loras) in use"), std::string::npos) << full;
    const Reply end = running.read_reply(120);
    EXPECT_NE(end.body.find("\"finish_reason\":\"length\""), std::string::npos);
    EXPECT_EQ(ask({{"model", "one"}}), one);
    // Its place is free once the request's last piece is told.
    Reply again;
    for (int i = 0; i < 100; ++i) {
        again = post("/v1/load_lora_adapter",
                     {{"lora_name", "two"}, {"lora_path", (folder_.path() / "two").string()}}, admin);
        if (again.status == 200) break;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    EXPECT_EQ(again.status, 200) << again.body;
    EXPECT_EQ(ask({{"model", "two"}}), all);
    EXPECT_NE(two, all);
    EXPECT_EQ(ask({{"model", "one"}}), one);
}

TEST_F(Lora, WhatIsWrongIsNamed) {
    const Reply unknown = post("/v1/completions", body({{"model", "three"}}));
    EXPECT_EQ(unknown.status, 404);
    EXPECT_NE(unknown.body.find("there are: demo, one, two"), std::string::npos) << unknown.body;
    EXPECT_EQ(post("/v1/completions", body({{"model", "demo:three"}})).status, 404);
    EXPECT_EQ(post("/v1/completions", body({{"model", "one:two"}})).status, 404);
    const Reply id = post("/v1/completions", body(lora({{7, 1}})));
    EXPECT_EQ(id.status, 400);
    EXPECT_NE(id.body.find("there is no adapter 7; there are: 0 (one), 1 (two)"), std::string::npos)
        << id.body;
    for (const char* bad : {R"({"lora": 1, "prompt": "a"})", R"({"lora": [{"id": 0}], "prompt": "a"})",
                            R"({"lora": [{"id": -1, "scale": 1}], "prompt": "a"})",
                            R"({"lora": [{"id": 0, "scale": "1"}], "prompt": "a"})"}) {
        EXPECT_EQ(Client(server_->port()).ask("POST", "/v1/completions", bad).status, 400) << bad;
    }
    EXPECT_EQ(post("/v1/load_lora_adapter", {{"lora_name", "x"}, {"lora_path", "x"}}).status, 401);
    load("one", "one", 400);
    load("demo", "one", 400);
    EXPECT_NE(load("x", "nothing", 400).get<std::string>().find("nothing: cannot open"), std::string::npos);
    EXPECT_NE(load("x", "wide", 400).get<std::string>().find("(--max-lora-rank), found 17"),
              std::string::npos);
    EXPECT_EQ(models().size(), 3u);
    load("x", "one");
    EXPECT_EQ(ask({{"model", "x"}}), ask({{"model", "one"}}));
}

}  // namespace
}  // namespace smelt
