// Anthropic's dialect: bodies, the order of events, errors.
#include "server/api_fixture.h"

namespace smelt {
namespace {

class AnthropicTest : public ApiTest {
 protected:
    Json base(Json more = Json::object()) const {
        Json request = {
            {"model", "demo-23m"}, {"max_tokens", 100}, {"temperature", 0}, {"messages", question}};
        request.update(more);
        return request;
    }
    Json ask(const Json& more = Json::object()) {
        const Reply r = post("/v1/messages", base(more));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    }
    static Json said(const Json& text) { return Json::array({{{"role", "user"}, {"content", text}}}); }

    inline static const Json thinking = {{"type", "enabled"}, {"budget_tokens", 1024}};
    inline static const Json tools = parse_json(
        R"([{"name": "get_weather", "description": "Current weather of a city", "input_schema":
            {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}])",
        "tools");
};

TEST_F(AnthropicTest, MessagesHaveTextBlocks) {
    const Json m = ask();
    EXPECT_EQ(m["type"], "message");
    EXPECT_EQ(m["role"], "assistant");
    EXPECT_EQ(m["model"], "demo-23m");
    EXPECT_EQ(m["content"], Json::array({{{"type", "text"}, {"text", "12 + 30 = 42"}}}));
    EXPECT_EQ(m["stop_reason"], "end_turn");
    EXPECT_EQ(m["stop_sequence"], nullptr);
    EXPECT_GT(m["usage"]["output_tokens"].get<int>(), 3);
}

TEST_F(AnthropicTest, ThinkingIsABlockWhereItIsAskedFor) {
    const Json m = ask({{"thinking", thinking}});
    ASSERT_EQ(m["content"].size(), 2u) << m;
    EXPECT_EQ(m["content"][0]["type"], "thinking");
    EXPECT_EQ(m["content"][0]["thinking"], "12 + 30 equals 42.");
    EXPECT_EQ(m["content"][1]["text"], "12 + 30 = 42");
}

TEST_F(AnthropicTest, ThinkingEndsWithItsBudget) {
    const Json m = ask({{"thinking", {{"type", "enabled"}, {"budget_tokens", 4}}}});
    ASSERT_EQ(m["content"].size(), 2u) << m;
    EXPECT_EQ(m["content"][0]["thinking"], "12 +");
    EXPECT_NE(m["content"][1]["text"], "");
}

TEST_F(AnthropicTest, StopSequencesAndLimits) {
    const Json stopped = ask({{"stop_sequences", {"=", "nix"}}});
    EXPECT_EQ(stopped["stop_reason"], "stop_sequence");
    EXPECT_EQ(stopped["stop_sequence"], "=");
    EXPECT_EQ(stopped["content"][0]["text"], "12 + 30 ");
    EXPECT_EQ(ask({{"max_tokens", 2}})["stop_reason"], "max_tokens");
}

TEST_F(AnthropicTest, SystemAndTextBlocksAreText) {
    const Json a = ask({{"system", "Be brief."}});
    const Json b = ask({{"system", Json::array({{{"type", "text"}, {"text", "Be brief."}}})},
                        {"messages", said(Json::array({{{"type", "text"},
                                                        {"text", "What is 12 + 30?"},
                                                        {"cache_control", {{"type", "ephemeral"}}}}}))}});
    EXPECT_EQ(a["content"], b["content"]);
    EXPECT_EQ(a["usage"]["output_tokens"], b["usage"]["output_tokens"]);
}

TEST_F(AnthropicTest, ToolsThereAndBack) {
    Json messages = said("What is the weather in Paris?");
    const Json call = ask({{"messages", messages}, {"tools", tools}});
    EXPECT_EQ(call["stop_reason"], "tool_use");
    ASSERT_EQ(call["content"].size(), 1u) << call;
    const Json& use = call["content"][0];
    EXPECT_EQ(use["type"], "tool_use");
    EXPECT_EQ(use["name"], "get_weather");
    EXPECT_EQ(use["input"], Json({{"city", "Paris"}}));
    messages.push_back({{"role", "assistant"}, {"content", call["content"]}});
    messages.push_back({{"role", "user"},
                        {"content", Json::array({{{"type", "tool_result"},
                                                  {"tool_use_id", use["id"]},
                                                  {"content", R"({"temperature": 21})"}}})}});
    const Json answer = ask({{"messages", messages}, {"tools", tools}});
    EXPECT_EQ(answer["stop_reason"], "end_turn");
    EXPECT_NE(answer["content"][0]["text"].get<std::string>().find("21"), std::string::npos) << answer;
}

// message_start, ping, for each block start, deltas and stop, message_delta, message_stop.
TEST_F(AnthropicTest, EventsComeInAnthropicsOrder) {
    for (const Json& more : {Json{{"thinking", thinking}},
                             Json{{"messages", said("What is the weather in Paris?")}, {"tools", tools}}}) {
        const Json whole = ask(more);
        Json request = base(more);
        request["stream"] = true;
        const Reply r = post("/v1/messages", request);
        EXPECT_EQ(r.header("content-type"), "text/event-stream; charset=utf-8");
        const std::vector<Json> all = events(r.body);
        ASSERT_GT(all.size(), 5u) << r.body;
        EXPECT_EQ(all[0]["type"], "message_start");
        EXPECT_EQ(all[0]["message"]["content"], Json::array());
        EXPECT_GT(all[0]["message"]["usage"]["input_tokens"].get<int>(), 5);
        EXPECT_EQ(all[1]["type"], "ping");
        Json content = Json::array();
        std::string arguments;
        bool open = false;
        for (size_t i = 2; i + 2 < all.size(); ++i) {
            const Json& e = all[i];
            if (e["type"] == "content_block_start") {
                EXPECT_FALSE(open);
                EXPECT_EQ(e["index"], content.size());
                content.push_back(e["content_block"]);
                arguments.clear();
                open = true;
            } else if (e["type"] == "content_block_stop") {
                EXPECT_TRUE(open);
                if (!arguments.empty()) content.back()["input"] = Json::parse(arguments);
                open = false;
            } else {
                ASSERT_EQ(e["type"], "content_block_delta");
                ASSERT_TRUE(open);
                EXPECT_EQ(e["index"], content.size() - 1);
                const Json& d = e["delta"];
                if (d["type"] == "input_json_delta") {
                    arguments += d["partial_json"].get<std::string>();
                } else {
                    const char* side = d["type"] == "text_delta" ? "text" : "thinking";
                    content.back()[side] =
                        content.back()[side].get<std::string>() + d[side].get<std::string>();
                }
            }
        }
        EXPECT_FALSE(open);
        Json expected = whole["content"];
        for (Json& block : content) block.erase("id");
        for (Json& block : expected) block.erase("id");
        EXPECT_EQ(content, expected);
        const Json& delta = all[all.size() - 2];
        EXPECT_EQ(delta["type"], "message_delta");
        EXPECT_EQ(delta["delta"]["stop_reason"], whole["stop_reason"]);
        EXPECT_EQ(delta["usage"]["output_tokens"], whole["usage"]["output_tokens"]);
        EXPECT_EQ(all.back()["type"], "message_stop");
        // Each data line has its event line.
        EXPECT_NE(r.body.find("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"),
                  std::string::npos);
    }
}

TEST_F(AnthropicTest, TokensAreCountedAsTheyArePrompted) {
    Json request = {{"model", "demo-23m"}, {"messages", question}, {"system", "Be brief."}, {"tools", tools}};
    const int n = post("/v1/messages/count_tokens", request).json()["input_tokens"];
    request["max_tokens"] = 1;
    const Json usage = post("/v1/messages", request).json()["usage"];
    EXPECT_EQ(n, usage["input_tokens"].get<int>() + usage["cache_read_input_tokens"].get<int>());
}

TEST_F(AnthropicTest, ErrorsAreAnthropics) {
    const Json use = {{"type", "tool_use"}, {"id", "a"}, {"name", "f"}, {"input", Json::object()}};
    const auto message = [](const char* role, const Json& content) {
        return Json{{"role", role}, {"content", content}};
    };
    const std::pair<Json, const char*> wrong[] = {
        {{{"max_tokens", nullptr}}, "max_tokens"},
        {{{"messages", Json::array()}}, "messages"},
        {{{"messages", said(Json::array({{{"type", "image"}}}))}}, "messages[0].content[0].source"},
        {{{"messages", said(Json::array({{{"type", "tool_result"}, {"tool_use_id", "x"}}}))}},
         "messages[0].content[0].tool_use_id"},
        {{{"messages", Json::array({message("user", Json::array({use}))})}}, "messages[0].content[0].type"},
        {{{"tools", {{{"name", "f"}}}}}, "tools[0].input_schema"},
        {{{"tool_choice", {{"type", "any"}}}}, "tool_choice"},
        {{{"thinking", {{"type", "often"}}}}, "thinking.type"},
        {{{"thread", {{"type", "create"}}}}, "thread"},
    };
    for (const auto& [more, param] : wrong) {
        const Reply r = post("/v1/messages", base(more));
        EXPECT_EQ(r.status, 400) << more;
        EXPECT_EQ(r.json()["type"], "error");
        EXPECT_EQ(r.json()["error"]["type"], "invalid_request_error");
        EXPECT_EQ(r.param(), param) << r.body;
    }
    const Reply none = post("/v1/messages", base({{"model", "claude-9"}}));
    EXPECT_EQ(none.status, 404);
    EXPECT_EQ(none.json()["error"]["type"], "not_found_error");
    const Reply get_it = get("/v1/messages");
    EXPECT_EQ(get_it.status, 405);
    EXPECT_EQ(get_it.json()["type"], "error");
}

}  // namespace
}  // namespace smelt
