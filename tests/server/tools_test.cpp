// Tools in /v1/chat/completions: the model's own calls become OpenAI's, and go back to it.
#include "server/api_fixture.h"

namespace smelt {
namespace {

class ToolsTest : public ApiTest {
 protected:
    Json ask(const Json& more = Json::object(), const char* key = nullptr) {
        Json request = {{"model", "demo-23m"}, {"temperature", 0}, {"max_tokens", 100}, {"tools", tools}};
        if (!more.contains("messages")) request["messages"] = weather;
        request.update(more);
        const Reply r = post("/v1/chat/completions", request);
        EXPECT_EQ(r.status, 200) << r.body;
        return key == nullptr ? r.json() : r.json()["choices"][0][key];
    }

    inline static const Json tools = parse_json(
        R"([{"type": "function", "function": {"name": "get_weather", "description": "Current weather of a city",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}])",
        "tools");
    inline static const Json weather =
        Json::array({{{"role", "user"}, {"content", "What is the weather in Paris?"}}});
};

TEST_F(ToolsTest, TheBundledModelCallsGetWeather) {
    const Json choice = ask()["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "tool_calls");
    EXPECT_EQ(choice["message"]["content"], nullptr);
    ASSERT_EQ(choice["message"]["tool_calls"].size(), 1u);
    const Json& call = choice["message"]["tool_calls"][0];
    EXPECT_EQ(call["type"], "function");
    EXPECT_TRUE(call["id"].get<std::string>().starts_with("call_"));
    EXPECT_EQ(call["function"]["name"], "get_weather");
    EXPECT_EQ(Json::parse(call["function"]["arguments"].get<std::string>()), Json({{"city", "Paris"}}));
}

TEST_F(ToolsTest, StreamedCallsAreTheSame) {
    const std::vector<Json> all = events(post("/v1/chat/completions", {{"model", "demo-23m"},
                                                                       {"temperature", 0},
                                                                       {"stream", true},
                                                                       {"tools", tools},
                                                                       {"messages", weather}})
                                             .body);
    std::string id, name, arguments, content, reason;
    for (const Json& e : all) {
        if (!e.is_object()) continue;
        const Json& c = e["choices"][0];
        content += c["delta"].value("content", "");
        for (const Json& call : c["delta"].value("tool_calls", Json::array())) {
            EXPECT_EQ(call["index"], 0);
            id += call.value("id", "");
            name += call["function"].value("name", "");
            arguments += call["function"].value("arguments", "");
        }
        if (!c["finish_reason"].is_null()) reason = c["finish_reason"];
    }
    EXPECT_EQ(content, "");
    EXPECT_EQ(reason, "tool_calls");
    EXPECT_EQ(name, "get_weather");
    EXPECT_EQ(id.rfind("call_"), 0u);
    EXPECT_EQ(Json::parse(arguments), Json({{"city", "Paris"}}));
}

// The call and its result go through the template, and the model answers from them.
TEST_F(ToolsTest, ResultsGoBackToTheModel) {
    Json messages = weather;
    messages.push_back(ask(Json::object(), "message"));
    const std::string id = messages.back()["tool_calls"][0]["id"];
    messages.push_back({{"role", "tool"},
                        {"tool_call_id", id},
                        {"content", R"({"temperature": 21, "condition": "sunny"})"}});
    const Json choice = ask({{"messages", messages}})["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_NE(choice["message"]["content"].get<std::string>().find("21"), std::string::npos) << choice;

    const std::string prompt =
        post("/apply-template", {{"model", "demo-23m"}, {"messages", messages}, {"tools", tools}})
            .json()["prompt"];
    EXPECT_NE(prompt.find("<tools>\n{\"type\": \"function\", \"function\": {\"name\": \"get_weather\""),
              std::string::npos)
        << prompt;
    EXPECT_NE(prompt.find("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": "
                          "\"Paris\"}}\n</tool_call><|im_end|>"),
              std::string::npos)
        << prompt;
    EXPECT_NE(prompt.find("<tool_response>\n{\"temperature\": 21"), std::string::npos) << prompt;
}

TEST_F(ToolsTest, NoneMeansThatTheModelIsNotTold) {
    const Json choice = ask({{"tool_choice", "none"}})["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_FALSE(choice["message"].contains("tool_calls"));
    EXPECT_EQ(choice["message"]["content"].get<std::string>().find("<tool_call>"), std::string::npos);
    const Json messages = {{"model", "demo-23m"}, {"messages", weather}};
    Json with = messages;
    with["tools"] = tools;
    const auto n_prompt = [&](Json request) {
        request["max_tokens"] = 1;
        return post("/v1/chat/completions", request).json()["usage"]["prompt_tokens"].get<int>();
    };
    EXPECT_GT(n_prompt(with), n_prompt(messages) + 20);
    with["tool_choice"] = "none";
    EXPECT_EQ(n_prompt(with), n_prompt(messages));
}

TEST_F(ToolsTest, WithoutToolsCallsAreText) {
    const Json prompt =
        post("/apply-template", {{"model", "demo-23m"}, {"messages", weather}, {"tools", tools}})
            .json()["prompt"];
    const Json r = post("/v1/completions", {{"model", "demo-23m"},
                                            {"prompt", prompt.get<std::string>() + "<think>\n\n</think>\n\n"},
                                            {"temperature", 0},
                                            {"max_tokens", 60}})
                       .json();
    EXPECT_TRUE(r["choices"][0]["text"].get<std::string>().starts_with("<tool_call>")) << r;
}

TEST_F(ToolsTest, MalformedRequestsAreRefusedWithTheirPlace) {
    const auto call = [](const Json& arguments) {
        return Json{{"id", "a"},
                    {"type", "function"},
                    {"function", {{"name", "get_weather"}, {"arguments", arguments}}}};
    };
    const Json user = weather[0];
    const Json good = {{"role", "assistant"}, {"tool_calls", Json::array({call("{\"city\": \"Rome\"}")})}};
    const Json result = {{"role", "tool"}, {"tool_call_id", "a"}, {"content", "rain"}};
    const std::pair<Json, const char*> histories[] = {
        {Json::array({user, result}), "messages[1].tool_call_id"},
        {Json::array({user, good, {{"role", "tool"}, {"content", "rain"}}}), "messages[2].tool_call_id"},
        {Json::array({user, good, {{"role", "tool"}, {"tool_call_id", "b"}, {"content", "rain"}}}),
         "messages[2].tool_call_id"},
        {Json::array({user, good, {{"role", "tool"}, {"tool_call_id", "a"}}}), "messages[2].content"},
        {Json::array({{{"role", "user"}, {"content", "x"}, {"tool_calls", Json::array({call("{}")})}}}),
         "messages[0].tool_calls"},
        {Json::array({user, {{"role", "assistant"}, {"tool_calls", "x"}}}), "messages[1].tool_calls"},
        {Json::array({user, {{"role", "assistant"}, {"tool_calls", {1}}}}), "messages[1].tool_calls[0]"},
        {Json::array({user, {{"role", "assistant"}, {"tool_calls", Json::array({call("{\"city\":")})}}}),
         "messages[1].tool_calls[0].function.arguments"},
        {Json::array({user, {{"role", "assistant"}, {"tool_calls", Json::array({call("[1]")})}}}),
         "messages[1].tool_calls[0].function.arguments"},
        {Json::array({user, {{"role", "assistant"}, {"tool_calls", Json::array({call(5)})}}}),
         "messages[1].tool_calls[0].function.arguments"},
        {Json::array({user, {{"role", "assistant"}, {"tool_calls", Json::array({Json::object()})}}}),
         "messages[1].tool_calls[0].id"},
    };
    for (const auto& [messages, param] : histories) {
        const Reply r = post("/v1/chat/completions", {{"messages", messages}, {"tools", tools}});
        EXPECT_EQ(r.status, 400) << messages;
        EXPECT_EQ(r.param(), param) << messages << r.body;
        EXPECT_NE(r.body.find(param), std::string::npos) << "the text names the place";
    }
    EXPECT_EQ(post("/v1/chat/completions",
                   {{"messages", Json::array({user, good, result})}, {"tools", tools}, {"max_tokens", 1}})
                  .status,
              200);

    const auto refused = [&](const Json& more) {
        Json request = {{"messages", weather}, {"tools", tools}};
        request.update(more);
        const Reply r = post("/v1/chat/completions", request);
        EXPECT_EQ(r.status, 400) << more;
        return r.param();
    };
    EXPECT_EQ(refused({{"tools", Json::array({tools[0], tools[0]})}}), "tools[1].function.name");
    EXPECT_EQ(refused({{"tools", {{{"type", "retrieval"}}}}}), "tools[0].type");
    EXPECT_EQ(refused({{"tools", {{{"type", "function"}, {"function", {{"name", "a b"}}}}}}}),
              "tools[0].function.name");
    EXPECT_EQ(refused({{"tool_choice", "always"}}), "tool_choice");
    EXPECT_EQ(refused({{"tool_choice", {{"type", "function"}, {"function", {{"name", "nix"}}}}}}),
              "tool_choice");
    EXPECT_EQ(refused({{"tools", nullptr}, {"tool_choice", "required"}}), "tool_choice");
}

}  // namespace
}  // namespace smelt
