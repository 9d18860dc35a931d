// KServe v2 as its clients ask for it: tensors as JSON and as bytes, Triton's generate, the repository.
#include <cstring>

#include "server/api_fixture.h"

namespace smelt {
namespace {

const std::string capital = "The capital of France is";

Json text_tensor(const Json& data, const Json& shape) {
    return {{"name", "text_input"}, {"datatype", "BYTES"}, {"shape", shape}, {"data", data}};
}

class KserveTest : public ApiTest {
 protected:
    static std::string of(const std::string& rest) { return "/v2/models/demo-23m" + rest; }
    Json ask(const std::string& path, const Json& body) {
        const Reply r = post(of(path), body);
        EXPECT_EQ(r.status, 200) << body << r.body;
        return r.json();
    }
    std::string refused(const std::string& path, const Json& body, int status = 400) {
        const Reply r = post(of(path), body);
        EXPECT_EQ(r.status, status) << body << r.body;
        const Json answer = r.json();
        EXPECT_EQ(answer.size(), 1u) << answer;
        return answer.value("error", "no error");
    }
    // What the other dialect makes of the same text.
    std::string expected(const std::string& prompt, int n = 8, bool ignore_eos = false) {
        return post("/v1/completions", {{"model", "demo-23m"},
                                        {"prompt", prompt},
                                        {"max_tokens", n},
                                        {"ignore_eos", ignore_eos},
                                        {"temperature", 0}})
            .json()["choices"][0]["text"];
    }
    static const Json& output(const Json& answer, const std::string& name) {
        for (const Json& o : answer["outputs"]) {
            if (o["name"] == name) return o;
        }
        throw std::runtime_error("no output " + name);
    }
    static Json greedy(const Json& more = Json::object()) {
        Json p = {{"max_tokens", 8}, {"temperature", 0}};
        p.update(more);
        return p;
    }
};

TEST_F(KserveTest, GeneratesAsTheOtherDialectsDo) {
    const Json a = ask("/generate", {{"text_input", capital}, {"max_tokens", 8}, {"temperature", 0}});
    EXPECT_EQ(a["text_output"], expected(capital));
    EXPECT_EQ(a["model_name"], "demo-23m");
    EXPECT_EQ(a["model_version"], "1");
    EXPECT_TRUE(a["num_output_tokens"].is_number_integer());
    // The same parameters inside, as a text, and under TensorRT-LLM's names.
    for (const Json& body : {Json{{"text_input", capital}, {"parameters", greedy({{"stream", false}})}},
                             Json{{"text_input", capital},
                                  {"sampling_parameters", R"({"max_tokens": "8", "temperature": "0.0"})"}},
                             Json{{"text_input", capital},
                                  {"max_tokens", 8},
                                  {"temperature", 0},
                                  {"bad_words", ""},
                                  {"stop_words", ""}}}) {
        EXPECT_EQ(ask("/generate", body)["text_output"], a["text_output"]) << body;
    }
    const Json drawn = {{"text_input", capital}, {"parameters", {{"seed", 5}, {"temperature", 2.0}}}};
    EXPECT_EQ(ask("/generate", drawn)["text_output"], ask("/generate", drawn)["text_output"]);
    const Json with_input = ask("/generate", {{"text_input", capital},
                                              {"id", "mine"},
                                              {"parameters", greedy({{"exclude_input_in_output", false}})}});
    EXPECT_EQ(with_input["text_output"], capital + expected(capital));
    EXPECT_EQ(with_input["id"], "mine");
    // A question, with the model's template around it.
    const Json chat =
        post("/v1/chat/completions",
             {{"model", "demo-23m"}, {"temperature", 0}, {"max_tokens", 60}, {"messages", question}})
            .json();
    EXPECT_EQ(ask("/generate",
                  {{"text_input", "What is 12 + 30?"},
                   {"parameters",
                    {{"apply_chat_template", true}, {"temperature", 0}, {"max_tokens", 60}}}})["text_output"],
              chat["choices"][0]["message"]["content"]);
}

TEST_F(KserveTest, StopsWhereItIsTold) {
    const std::string whole = expected(capital, 30);
    const size_t at = whole.find(' ', 4);
    ASSERT_NE(at, std::string::npos) << whole;
    const std::string stop = whole.substr(at, 3);
    const Json a =
        ask("/generate", {{"text_input", capital}, {"stop", stop}, {"max_tokens", 30}, {"temperature", 0}});
    EXPECT_EQ(a["text_output"], whole.substr(0, whole.find(stop)));
    EXPECT_EQ(a["finish_reason"], "stop");
    EXPECT_EQ(ask("/generate", {{"text_input", capital},
                                {"stop_words", stop},
                                {"max_tokens", 30},
                                {"temperature", 0}})["text_output"],
              a["text_output"]);
}

TEST_F(KserveTest, StreamsEvents) {
    const Json asked = greedy({{"stream", true}, {"ignore_eos", true}});
    const Reply r = post(of("/generate_stream"), {{"text_input", capital}, {"parameters", asked}});
    EXPECT_TRUE(r.header("content-type").starts_with("text/event-stream"));
    std::string text;
    const std::vector<Json> all = events(r.body);
    ASSERT_GT(all.size(), 2u) << r.body;
    for (const Json& e : all) {
        EXPECT_EQ(e["model_name"], "demo-23m");
        text += e["text_output"].get<std::string>();
    }
    EXPECT_EQ(text, expected(capital, 8, true));
    EXPECT_EQ(all.back()["finish_reason"], "length");
    EXPECT_EQ(all.back()["num_output_tokens"], 8);
    const std::vector<Json> one = events(
        post(of("/generate_stream"),
             {{"text_input", capital}, {"parameters", greedy({{"stream", false}, {"ignore_eos", true}})}})
            .body);
    ASSERT_EQ(one.size(), 1u);
    EXPECT_EQ(one[0]["text_output"], text);
    EXPECT_NE(refused("/generate", {{"text_input", capital}, {"stream", true}}).find("generate_stream"),
              std::string::npos);
}

TEST_F(KserveTest, InfersRowsOfTensors) {
    const Json body = {
        {"id", "42"},
        {"parameters", {{"ignore_eos", true}}},
        {"inputs",
         {text_tensor({capital, "Once upon a time"}, {2, 1}),
          {{"name", "max_tokens"}, {"datatype", "INT32"}, {"shape", {2, 1}}, {"data", {{8}, {8}}}},
          {{"name", "temperature"}, {"datatype", "FP32"}, {"shape", {1}}, {"data", {0.0}}}}}};
    const Json a = ask("/infer", body);
    EXPECT_EQ(a["id"], "42");
    ASSERT_EQ(a["outputs"].size(), 4u);
    const Json& text = output(a, "text_output");
    EXPECT_EQ(text["datatype"], "BYTES");
    EXPECT_EQ(text["shape"], Json({2, 1}));
    EXPECT_EQ(text["data"], Json({expected(capital, 8, true), expected("Once upon a time", 8, true)}));
    EXPECT_EQ(output(a, "finish_reason")["data"][0], "length");
    EXPECT_EQ(output(a, "num_output_tokens")["data"], Json({8, 8}));
    const Json chosen = ask("/infer", {{"inputs", Json::array({text_tensor({capital}, {1})})},
                                       {"outputs", Json::array({{{"name", "text_output"}}})},
                                       {"parameters", greedy({{"ignore_eos", true}})}});
    ASSERT_EQ(chosen["outputs"].size(), 1u);
    EXPECT_EQ(chosen["outputs"][0]["data"][0], text["data"][0]);
    EXPECT_EQ(chosen["outputs"][0]["shape"], Json({1}));
}

std::string with_length(const std::string& text) {
    const auto n = static_cast<uint32_t>(text.size());
    std::string bytes(sizeof n, '\0');
    std::memcpy(bytes.data(), &n, sizeof n);
    return bytes + text;
}

TEST_F(KserveTest, BinaryDataGoesBothWays) {
    const std::string texts = with_length(capital) + with_length("One");
    const float zero = 0;
    const Json header = {{"inputs",
                          {{{"name", "text_input"},
                            {"datatype", "BYTES"},
                            {"shape", {2}},
                            {"parameters", {{"binary_data_size", texts.size()}}}},
                           {{"name", "temperature"},
                            {"datatype", "FP32"},
                            {"shape", {1}},
                            {"parameters", {{"binary_data_size", 4}}}}}},
                         {"outputs",
                          {{{"name", "text_output"}, {"parameters", {{"binary_data", true}}}},
                           {{"name", "num_output_tokens"}, {"parameters", {{"binary_data", true}}}}}},
                         {"parameters", {{"max_tokens", 8}}}};
    const std::string json = to_string(header);
    const std::string body = json + texts + std::string(reinterpret_cast<const char*>(&zero), sizeof zero);
    const auto send = [&](const std::string& sent, const std::string& length) {
        Client client(server_->port());
        return client.ask("POST", of("/infer"), sent,
                          "Host: localhost\r\nInference-Header-Content-Length: " + length + "\r\n");
    };
    const Reply r = send(body, std::to_string(json.size()));
    ASSERT_EQ(r.status, 200) << r.body;
    const size_t n = std::stoul(r.header("inference-header-content-length"));
    const Json answer = Json::parse(r.body.substr(0, n));
    const std::string expected_bytes = with_length(expected(capital)) + with_length(expected("One"));
    EXPECT_EQ(answer["outputs"][0]["parameters"]["binary_data_size"], expected_bytes.size());
    EXPECT_EQ(r.body.substr(n, expected_bytes.size()), expected_bytes);
    EXPECT_EQ(r.body.size(), n + expected_bytes.size() + 8);
    // What does not add up is refused.
    EXPECT_EQ(send(body + "x", std::to_string(json.size())).status, 400);
    EXPECT_EQ(send(body.substr(0, body.size() - 1), std::to_string(json.size())).status, 400);
    EXPECT_EQ(send(body, std::to_string(body.size() + 1)).status, 400);
    EXPECT_EQ(send(body, "-1").status, 400);
    EXPECT_EQ(send(body, "many").status, 400);
    EXPECT_EQ(send(body, "0").status, 400);
    std::string long_text = body;
    long_text[json.size() + 2] = '\x7f';  // a string longer than everything
    EXPECT_EQ(send(long_text, std::to_string(json.size())).status, 400);
    // A million empty texts in four million bytes.
    const Json many = {{"inputs",
                        {{{"name", "text_input"},
                          {"datatype", "BYTES"},
                          {"shape", {1 << 20}},
                          {"parameters", {{"binary_data_size", 4 << 20}}}}}}};
    const Reply refused =
        send(to_string(many) + std::string(4 << 20, '\0'), std::to_string(to_string(many).size()));
    EXPECT_EQ(refused.status, 400);
    EXPECT_NE(refused.body.find("65536 elements"), std::string::npos) << refused.body;
}

TEST_F(KserveTest, FaultsAreNamed) {
    const auto infer = [&](const Json& input, const Json& more = Json::object()) {
        Json body = {{"inputs", Json::array({input})}};
        body.update(more);
        return refused("/infer", body);
    };
    EXPECT_EQ(infer({{"name", "x"}, {"datatype", "BYTES"}, {"shape", {1}}, {"data", {"a"}}}),
              "inputs: no text_input");
    EXPECT_EQ(infer(text_tensor({"a"}, {2})), "text_input: expected 2 elements for its shape, found 1");
    EXPECT_EQ(infer(text_tensor({1}, {1})), "text_input: expected BYTES, found 1");
    EXPECT_EQ(infer(text_tensor(Json::array(), {0})), "text_input: expected 1 to 256 texts, found 0");
    EXPECT_NE(infer(text_tensor({"a"}, {1, 1, 1})).find("[1, 1, 1]"), std::string::npos);
    EXPECT_NE(infer(text_tensor({"a"}, {-1})).find("shape"), std::string::npos);
    EXPECT_NE(infer(text_tensor({"a"}, {4294967296})).find("shape"), std::string::npos);
    EXPECT_NE(
        infer({{"name", "text_input"}, {"datatype", "FP16"}, {"shape", {1}}, {"data", {1.5}}}).find("FP16"),
        std::string::npos);
    EXPECT_EQ(infer(text_tensor({"a"}, {1}), {{"outputs", Json::array({{{"name", "logits"}}})}}),
              "outputs: the models here have no output logits");
    EXPECT_EQ(infer(text_tensor({"a"}, {1}), {{"parameters", {{"temperature", -1}}}}).substr(0, 12),
              "temperature:");
    EXPECT_NE(infer(text_tensor({"a"}, {1}), {{"parameters", {{"stream", true}}}}).find("stream"),
              std::string::npos);
    EXPECT_NE(infer(text_tensor({"a"}, {1}), {{"parameters", {{"sequence_id", 7}}}}).find("sequence_id"),
              std::string::npos);
    EXPECT_NE(infer(text_tensor({"a"}, {1}), {{"parameters", {{"n", 2}}}}).find("a row has one answer"),
              std::string::npos);
    Json shared = text_tensor({"a"}, {1});
    shared["parameters"] = {{"shared_memory_region", "r"}};
    EXPECT_NE(infer(shared).find("shared memory"), std::string::npos);
    const Json two = {
        {"inputs",
         {text_tensor({"a", "b"}, {2, 1}),
          {{"name", "max_tokens"}, {"datatype", "INT32"}, {"shape", {2, 1}}, {"data", {1, 2}}}}}};
    EXPECT_NE(refused("/infer", two).find("the same in every row"), std::string::npos);
    EXPECT_EQ(refused("/generate", Json::object()), "text_input is missing");
    EXPECT_EQ(ask("/generate", {{"text_input", "a"}, {"parameters", {{"colour", "blue"}}}})["warnings"][0],
              "parameters.colour: no such parameter, ignored");
    EXPECT_NE(
        refused("/generate", {{"text_input", "a"}, {"parameters", {{"max_tokenz", 5}}}}).find("did you mean"),
        std::string::npos);
}

TEST_F(KserveTest, TellsOfServerAndModels) {
    EXPECT_EQ(get("/v2").json()["name"], "smelt");
    EXPECT_EQ(get("/v2/health/live").json(), Json({{"live", true}}));
    EXPECT_EQ(get("/v2/health/ready").json(), Json({{"ready", true}}));
    EXPECT_EQ(get(of("/ready")).json()["ready"], true);
    const Json model = get(of("")).json();
    EXPECT_EQ(model["inputs"][0]["name"], "text_input");
    EXPECT_EQ(model["outputs"][0]["name"], "text_output");
    EXPECT_EQ(model, get(of("/versions/1")).json());
    const Json config = get(of("/versions/1/config")).json();
    EXPECT_EQ(config["backend"], "smelt");
    EXPECT_EQ(config["input"][0]["data_type"], "TYPE_STRING");
    // Every input that is described is taken.
    for (const Json& input : model["inputs"]) {
        if (input["datatype"] != "INT32" && input["datatype"] != "FP32") continue;
        const Json body = {
            {"inputs",
             {text_tensor({"a"}, {1}),
              {{"name", input["name"]}, {"datatype", input["datatype"]}, {"shape", {1}}, {"data", {1}}}}}};
        EXPECT_EQ(post(of("/infer"), body).status, 200) << input;
    }
    for (const char* path : {"/versions/2", "/versions/2/ready", "/versions/x/config"}) {
        const Reply r = get(of(path));
        EXPECT_EQ(r.status, 404) << path;
        EXPECT_TRUE(r.json()["error"].is_string()) << r.body;
    }
    EXPECT_EQ(get("/v2/models/nobody").status, 404);
    EXPECT_TRUE(get("/v2/models/nobody/ready").json()["error"].is_string());
    EXPECT_EQ(post("/v2/models/nobody/infer", {{"inputs", Json::array({text_tensor({"a"}, {1})})}}).status,
              404);
    EXPECT_EQ(post(of("/versions/1/generate"), {{"text_input", "a"}, {"max_tokens", 1}}).status, 200);
    EXPECT_EQ(get(of("/infer")).status, 405);
    EXPECT_EQ(get(of("/infer")).header("allow"), "POST");
    EXPECT_EQ(get("/v2/nothing").json()["error"], "Invalid URL (GET /v2/nothing)");
}

TEST(KserveRepository, LoadsAndUnloads) {
    TestServer server({.access = {.api_keys = {"key"}, .admin_keys = {"admin"}}});
    const auto ask = [&](const std::string& path, const std::string& body, const char* key = "admin") {
        return Client(server.port())
            .ask("POST", path, body, fmt::format("Host: localhost\r\nAuthorization: Bearer {}\r\n", key));
    };
    const auto state = [&](const std::string& name) -> Json {
        for (const Json& m : ask("/v2/repository/index", "", "key").json()) {
            if (m["name"] == name) return m["state"];
        }
        return {};
    };
    const std::string models = "/v2/repository/models/";
    EXPECT_EQ(state("demo-5m"), "READY");
    EXPECT_EQ(ask(models + "demo-5m/unload", "", "key").status, 401);
    EXPECT_EQ(ask(models + "demo-5m/unload", R"({"parameters": {"unload_dependents": false}})").status, 200);
    EXPECT_EQ(state("demo-5m"), "UNAVAILABLE");
    EXPECT_EQ(ask("/v2/repository/index", R"({"ready": true})").json().size(), 0u);
    EXPECT_EQ(ask(models + "demo-5m/load", "").status, 200);
    EXPECT_EQ(state("demo-5m"), "READY");
    EXPECT_EQ(ask(models + "other/load", "").status, 404);
    EXPECT_EQ(ask(models + "other/unload", "").status, 404);
    EXPECT_EQ(ask(models + "other/load", R"({"parameters": {"config": "{}"}})").status, 400);
    EXPECT_EQ(ask(models + "other/load", R"({"parameters": {"path": "/nowhere"}})").status, 400);
    const Json path = {{"parameters", {{"path", bundled("demo-5m")}}}};
    EXPECT_EQ(ask(models + "other/load", to_string(path)).status, 200);
    EXPECT_EQ(state("other"), "READY");
    EXPECT_EQ(ask(models + "other/load", to_string(path)).status, 400);
    EXPECT_EQ(ask("/v2/models/other/generate", R"({"text_input": "a", "max_tokens": 1})", "key").status, 200);
}

}  // namespace
}  // namespace smelt
