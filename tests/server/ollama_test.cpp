// Ollama's dialect: lines, their order, and what its clients ask first.
#include "server/api_fixture.h"

namespace smelt {
namespace {

class OllamaTest : public ApiTest {
 protected:
    Json base(const Json& more) const {
        Json request = {{"model", "demo-23m"}, {"options", {{"temperature", 0}}}, {"stream", false}};
        request.update(more);
        return request;
    }
    Json ask(const std::string& path, const Json& more) {
        const Reply r = post(path, base(more));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    }
    static std::vector<Json> lines(const std::string& body) {
        std::vector<Json> all;
        std::istringstream in(body);
        for (std::string line; std::getline(in, line);) all.push_back(Json::parse(line));
        return all;
    }

    inline static const Json weather =
        Json::array({{{"role", "user"}, {"content", "What is the weather in Paris?"}}});
    inline static const Json tools = parse_json(
        R"([{"type": "function", "function": {"name": "get_weather", "description": "Current weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])",
        "tools");
};

TEST_F(OllamaTest, ChatWhole) {
    const Json r = ask("/api/chat", {{"messages", question}, {"model", "demo-23m:latest"}});
    EXPECT_EQ(r["model"], "demo-23m");
    EXPECT_EQ(r["message"]["role"], "assistant");
    EXPECT_EQ(r["message"]["content"], "12 + 30 = 42");
    EXPECT_EQ(r["message"]["thinking"], "12 + 30 equals 42.");
    EXPECT_EQ(r["done"], true);
    EXPECT_EQ(r["done_reason"], "stop");
    for (const char* n :
         {"total_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"}) {
        EXPECT_GT(r[n].get<int64_t>(), 0) << n;
    }
    EXPECT_EQ(r["created_at"].get<std::string>().size(),
              std::string("2026-11-21T13:37:00.123456789Z").size());
    EXPECT_FALSE(
        ask("/api/chat", {{"messages", question}, {"think", false}})["message"].contains("thinking"));
    EXPECT_EQ(ask("/api/chat", {{"messages", question}, {"options", {{"num_predict", 2}}}})["done_reason"],
              "length");
}

// Streaming is the default, and the lines say together what the whole answer says.
TEST_F(OllamaTest, LinesAreTheSameAnswer) {
    for (const auto& [path, side, more] :
         {std::tuple{"/api/chat", "content", Json{{"messages", question}}},
          std::tuple{"/api/generate", "response", Json{{"prompt", "What is 12 + 30?"}}}}) {
        Json request = base(more);
        request.erase("stream");
        const Reply r = post(path, request);
        EXPECT_EQ(r.header("content-type"), "application/x-ndjson");
        const std::vector<Json> all = lines(r.body);
        ASSERT_GT(all.size(), 3u) << r.body;
        std::string text, thinking;
        for (const Json& line : all) {
            const Json& said = line.contains("message") ? line["message"] : line;
            text += said[side].get<std::string>();
            thinking += said.value("thinking", "");
            EXPECT_EQ(line["done"], &line == &all.back());
        }
        EXPECT_EQ(text, "12 + 30 = 42");
        EXPECT_EQ(thinking, "12 + 30 equals 42.");
        EXPECT_GT(all.back()["eval_count"].get<int>(), 5);
    }
}

TEST_F(OllamaTest, GenerateTakesSystemAndRawPrompts) {
    EXPECT_EQ(ask("/api/generate", {{"prompt", "What is 12 + 30?"}, {"think", false}})["response"],
              "12 + 30 = 42");
    const Json raw = ask("/api/generate", {{"prompt", "The capital of France is"},
                                           {"raw", true},
                                           {"options", {{"num_predict", 6}, {"temperature", 0}}}});
    const Json plain = post("/v1/completions", {{"model", "demo-23m"},
                                                {"prompt", "The capital of France is"},
                                                {"max_tokens", 6},
                                                {"temperature", 0}})
                           .json();
    EXPECT_EQ(raw["response"], plain["choices"][0]["text"]);
    EXPECT_NE(ask("/api/generate", {{"prompt", "Hi"}, {"system", "Be brief."}})["prompt_eval_count"],
              ask("/api/generate", {{"prompt", "Hi"}})["prompt_eval_count"]);
}

TEST_F(OllamaTest, ToolsThereAndBack) {
    const Json call = ask("/api/chat", {{"messages", weather}, {"tools", tools}, {"think", false}});
    ASSERT_EQ(call["message"]["tool_calls"].size(), 1u) << call;
    const Json& function = call["message"]["tool_calls"][0]["function"];
    EXPECT_EQ(function["name"], "get_weather");
    EXPECT_EQ(function["arguments"], Json({{"city", "Paris"}}));
    EXPECT_EQ(call["message"]["content"], "");

    Json request = base({{"messages", weather}, {"tools", tools}, {"think", false}});
    request["stream"] = true;
    int n_calls = 0;
    for (const Json& line : lines(post("/api/chat", request).body)) {
        n_calls += line["message"].contains("tool_calls");
        EXPECT_EQ(line["message"]["content"], "");
    }
    EXPECT_EQ(n_calls, 1);

    for (const Json& name : {Json{{"tool_name", "get_weather"}}, Json::object()}) {
        Json messages = weather;
        messages.push_back(call["message"]);
        messages.push_back({{"role", "tool"}, {"content", R"({"temperature": 21})"}});
        messages.back().update(name);
        const Json r = ask("/api/chat", {{"messages", messages}, {"tools", tools}});
        EXPECT_NE(r["message"]["content"].get<std::string>().find("21"), std::string::npos) << r;
    }
}

TEST_F(OllamaTest, NothingToAnswerLoadsTheModel) {
    for (const char* path : {"/api/chat", "/api/generate"}) {
        const Json r = ask(path, Json::object());
        EXPECT_EQ(r["done"], true);
        EXPECT_EQ(r["done_reason"], "load");
    }
}

TEST_F(OllamaTest, ModelsAreListedAndShown) {
    const Json tags = get("/api/tags").json();
    ASSERT_EQ(tags["models"].size(), 2u);
    EXPECT_EQ(tags["models"][1]["name"], "demo-23m:latest");
    EXPECT_EQ(tags["models"][1]["digest"].get<std::string>().size(), 64u);
    EXPECT_EQ(tags["models"][1]["details"]["family"], "qwen3");
    EXPECT_EQ(tags["models"][1]["details"]["quantization_level"], "BF16");
    EXPECT_EQ(tags["models"][1]["details"]["parameter_size"], "23.08M");
    const Json show = post("/api/show", {{"model", "demo-23m"}}).json();
    EXPECT_EQ(show["capabilities"], Json({"completion", "embedding", "tools", "thinking"}));
    EXPECT_EQ(show["model_info"]["qwen3.context_length"], 1024);
    EXPECT_NE(show["template"].get<std::string>().find("<tools>"), std::string::npos);
    const Json ps = get("/api/ps").json();
    EXPECT_EQ(ps["models"].size(), 2u);
    EXPECT_EQ(ps["models"][0]["size_vram"], 0);
    EXPECT_TRUE(get("/api/version").json()["version"].is_string());
}

TEST_F(OllamaTest, ErrorsAreOllamas) {
    const std::pair<Json, const char*> wrong[] = {
        {{{"messages", 5}}, "messages:"},
        {{{"messages", {{{"role", "bard"}, {"content", "x"}}}}}, "messages[0].role"},
        {{{"messages", {{{"role", "user"}, {"content", "x"}, {"images", {"aaaa"}}}}}},
         "messages: the model sees text alone, no pictures"},
        {{{"messages", {{{"role", "tool"}, {"content", "x"}}}}}, "messages[0]"},
        {{{"messages", question}, {"options", {{"temperature", 300}}}}, "options.temperature"},
        {{{"messages", question}, {"options", {{"num_predict", "many"}}}}, "options.num_predict"},
        {{{"messages", question}, {"think", "hard"}}, "think"},
        {{{"messages", question}, {"keep_alive", {1}}}, "keep_alive"},
        {{{"messages", question}, {"tools", {{{"type", "function"}}}}}, "tools[0].function"},
    };
    for (const auto& [more, text] : wrong) {
        const Reply r = post("/api/chat", base(more));
        EXPECT_EQ(r.status, 400) << more;
        EXPECT_TRUE(r.json()["error"].is_string()) << r.body;
        EXPECT_TRUE(r.json()["error"].get<std::string>().starts_with(text)) << r.body;
    }
    const Reply none = post("/api/generate", base({{"model", "llama9"}, {"prompt", "Hi"}}));
    EXPECT_EQ(none.status, 404);
    EXPECT_TRUE(none.json()["error"].is_string());
}

}  // namespace
}  // namespace smelt
