// Answers that are held to a form, and forms that cannot be kept.
#include "server/api_fixture.h"

namespace smelt {
namespace {

class ConstraintsTest : public ApiTest {
 protected:
    Json base(const Json& more) const {
        Json request = {
            {"model", "demo-23m"}, {"temperature", 0}, {"max_tokens", 150}, {"messages", question}};
        request.update(more);
        return request;
    }
    Json ask(const Json& more) {
        const Reply r = post("/v1/chat/completions", base(more));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json()["choices"][0];
    }
    std::string content(const Json& more) { return ask(more)["message"]["content"]; }
    static Json json_schema(const Json& schema, bool strict = true) {
        return {{"type", "json_schema"},
                {"json_schema", {{"name", "x"}, {"schema", schema}, {"strict", strict}}}};
    }
    Json forced(const Json& more) {
        Json request = {{"tools", tools}, {"tool_choice", "required"}};
        request.update(more);
        return ask(request);
    }

    inline static const Json sum = parse_json(
        R"({"type": "object", "properties": {"a": {"type": "integer"}, "sum": {"type": "integer", "minimum": 40}},
            "required": ["a", "sum"], "additionalProperties": false})",
        "schema");
    inline static const Json tools = parse_json(
        R"([{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object",
                "properties": {"city": {"type": "string", "maxLength": 20}}, "required": ["city"], "additionalProperties": false}}},
            {"type": "function", "function": {"name": "add", "parameters": {"type": "object",
                "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 99}, "how": {"enum": ["fast", "slow"]}},
                "required": ["a", "how"], "additionalProperties": false}}}])",
        "tools");
};

void expect_sum(const std::string& text) {
    const Json answer = Json::parse(text);
    ASSERT_EQ(answer.size(), 2u) << text;
    EXPECT_TRUE(answer["a"].is_number_integer()) << text;
    EXPECT_TRUE(answer["sum"].is_number_integer()) << text;
    EXPECT_GE(answer["sum"].get<double>(), 40) << text;
}

// A small model may fill an object of any form without end: one that came to its end, among several.
void expect_some_object(const std::function<Json(int seed)>& ask) {
    int n_ended = 0;
    for (int seed = 0; seed < 20 && n_ended < 2; ++seed) {
        const std::string text = ask(seed);
        if (text.empty() || text.back() != '}') continue;
        EXPECT_TRUE(Json::parse(text).is_object()) << text;
        ++n_ended;
    }
    EXPECT_GT(n_ended, 0);
}

TEST_F(ConstraintsTest, EverySpellingOfASchemaHoldsTheAnswer) {
    for (const Json& how :
         {Json{{"response_format", json_schema(sum)}}, Json{{"response_format", json_schema(sum, false)}},
          Json{{"response_format", {{"type", "json_object"}, {"schema", sum}}}},
          Json{{"structured_outputs", {{"json", sum}}}}, Json{{"guided_json", to_string(sum)}},
          Json{{"json_schema", sum}}}) {
        const Json choice = ask(how);
        EXPECT_EQ(choice["finish_reason"], "stop") << how;
        expect_sum(choice["message"]["content"]);
    }
    expect_some_object([&](int seed) {
        const Json choice =
            ask({{"response_format", {{"type", "json_object"}}}, {"temperature", 1}, {"seed", seed}});
        return choice["finish_reason"] == "stop" ? choice["message"]["content"] : Json("");
    });
    EXPECT_EQ(content({{"response_format", {{"type", "text"}}}}), "12 + 30 = 42");
}

TEST_F(ConstraintsTest, PatternsChoicesAndGrammars) {
    for (const char* name : {"guided_regex", "regex"}) {
        const Json how = name == std::string("regex")
                             ? Json{{"structured_outputs", {{"regex", "[a-c]{3}-[0-9]{2}"}}}}
                             : Json{{name, "[a-c]{3}-[0-9]{2}"}};
        const std::string text = content(how);
        ASSERT_EQ(text.size(), 6u) << text;
        EXPECT_EQ(text[3], '-');
    }
    for (const Json& how : {Json{{"guided_choice", {"red", "blue"}}},
                            Json{{"structured_outputs", {{"choice", {"red", "blue"}}}}},
                            Json{{"grammar", "root ::= \"red\" | \"blue\""}},
                            Json{{"guided_grammar", "root ::= \"red\" | \"blue\""}},
                            Json{{"structured_outputs", {{"grammar", "root ::= \"red\" | \"blue\""}}}}}) {
        const std::string text = content(how);
        EXPECT_TRUE(text == "red" || text == "blue") << text;
    }
    const Json plain = post("/v1/completions",
                            {{"model", "demo-5m"}, {"prompt", "The"}, {"guided_choice", {" red", " blue"}}})
                           .json();
    const std::string text = plain["choices"][0]["text"];
    EXPECT_TRUE(text == " red" || text == " blue") << text;
    const Json generated =
        post("/generate", {{"model", "demo-5m"}, {"prompt", "The"}, {"guided_regex", "[0-9]{1,3}!"}}).json();
    EXPECT_EQ(generated["text"].get<std::string>().back(), '!');
}

// The model thinks as it likes, and what comes behind is held.
TEST_F(ConstraintsTest, ThinkingIsFree) {
    const Json message = ask({{"response_format", json_schema(sum)}})["message"];
    EXPECT_EQ(message["reasoning_content"], "12 + 30 equals 42.");
    expect_sum(message["content"]);
    const Json silent = ask({{"response_format", json_schema(sum)}, {"reasoning_effort", "none"}})["message"];
    EXPECT_FALSE(silent.contains("reasoning_content"));
    expect_sum(silent["content"]);
}

TEST_F(ConstraintsTest, ForcedCallsAreCallsWhateverIsAsked) {
    for (const double temperature : {0.0, 1.0}) {
        for (int seed = 0; seed < 3; ++seed) {
            const Json choice = forced({{"temperature", temperature}, {"seed", seed}});
            EXPECT_EQ(choice["finish_reason"], "tool_calls") << choice;
            for (const Json& call : choice["message"]["tool_calls"]) {
                const Json arguments = Json::parse(call["function"]["arguments"].get<std::string>());
                if (call["function"]["name"] == "add") {
                    EXPECT_LE(arguments["a"].get<int>(), 99);
                    EXPECT_TRUE(arguments["how"] == "fast" || arguments["how"] == "slow");
                } else {
                    EXPECT_EQ(call["function"]["name"], "get_weather");
                    EXPECT_TRUE(arguments["city"].is_string());
                }
            }
        }
    }
    const Json named = forced({{"tool_choice", {{"type", "function"}, {"function", {{"name", "add"}}}}},
                               {"parallel_tool_calls", false}});
    ASSERT_EQ(named["message"]["tool_calls"].size(), 1u);
    EXPECT_EQ(named["message"]["tool_calls"][0]["function"]["name"], "add");
    EXPECT_EQ(named["message"]["content"], nullptr);
}

TEST_F(ConstraintsTest, StrictToolsKeepTheirSchemasAndTextStaysFree) {
    Json strict = tools;
    for (Json& t : strict) t["function"]["strict"] = true;
    EXPECT_EQ(ask({{"tools", Json::array({strict[1]})},
                   {"messages", question},
                   {"reasoning_effort", "none"}})["finish_reason"],
              "tool_calls");
    const Json who = Json::array({{{"role", "user"}, {"content", "Who are you?"}}});
    const Json free = ask({{"tools", strict}, {"messages", who}});
    EXPECT_EQ(free["finish_reason"], "stop");
    EXPECT_GT(free["message"]["content"].get<std::string>().size(), 3u);
}

// With tools and a form of the answer, it is either.
TEST_F(ConstraintsTest, CallsOrJson) {
    const Json weather = Json::array({{{"role", "user"}, {"content", "What is the weather in Paris?"}}});
    const Json choice = ask({{"messages", weather}, {"tools", tools}, {"response_format", json_schema(sum)}});
    if (choice["finish_reason"] == "tool_calls") {
        EXPECT_EQ(choice["message"]["content"], nullptr);
    } else {
        expect_sum(choice["message"]["content"]);
    }
}

TEST_F(ConstraintsTest, EveryDialectHasASpelling) {
    const Json responses =
        post("/v1/responses",
             {{"model", "demo-23m"},
              {"temperature", 0},
              {"input", "What is 12 + 30?"},
              {"text", {{"format", {{"type", "json_schema"}, {"name", "x"}, {"schema", sum}}}}}})
            .json();
    expect_sum(responses["output"].back()["content"][0]["text"]);
    const Json ollama =
        post("/api/chat", {{"model", "demo-23m"}, {"stream", false}, {"format", sum}, {"messages", question}})
            .json();
    expect_sum(ollama["message"]["content"]);
    expect_some_object([&](int seed) {
        const Json object =
            post("/api/generate", {{"model", "demo-23m"},
                                   {"stream", false},
                                   {"format", "json"},
                                   {"prompt", "Hi"},
                                   {"options", {{"temperature", 1}, {"seed", seed}, {"num_predict", 150}}}})
                .json();
        return object["done_reason"] == "stop" ? object["response"] : Json("");
    });
    const Json anthropic =
        post("/v1/messages", {{"model", "demo-23m"},
                              {"max_tokens", 100},
                              {"messages", question},
                              {"output_config", {{"format", {{"type", "json_schema"}, {"schema", sum}}}}}})
            .json();
    expect_sum(anthropic["content"].back()["text"]);
    const Json tool = {{"name", "add"}, {"input_schema", tools[1]["function"]["parameters"]}};
    const Json use = post("/v1/messages", {{"model", "demo-23m"},
                                           {"max_tokens", 100},
                                           {"temperature", 0},
                                           {"messages", question},
                                           {"tools", {tool}},
                                           {"tool_choice", {{"type", "any"}}}})
                         .json();
    EXPECT_EQ(use["stop_reason"], "tool_use");
    EXPECT_TRUE(use["content"].back()["input"]["a"].is_number_integer()) << use;
}

// As people use them: with every request. The answer is what it was, and nothing is compiled.
TEST_F(ConstraintsTest, FormsAreCompiledOnce) {
    const auto count = [&](const std::string& name) {
        const std::string metrics = get("/metrics").body;
        const std::string line = "\nsmelt_grammar_cache_" + name + "{model_name=\"demo-23m\"} ";
        const size_t at = metrics.find(line);
        return at == std::string::npos ? -1 : std::stod(metrics.substr(at + line.size()));
    };
    const auto schema = [](const std::vector<std::string>& names) {
        Json members = Json::object();
        for (const std::string& name : names) members[name] = {{"type", "integer"}, {"maximum", 73}};
        return Json{{"properties", members}, {"required", names}, {"additionalProperties", false}};
    };
    const auto n_compiled = [&](const std::function<void()>& request) {
        const double before = count("misses_total");
        request();
        return count("misses_total") - before;
    };
    const Json ab = {{"response_format", json_schema(schema({"first", "second"}))},
                     {"reasoning_effort", "none"}};
    const Json ba = {{"response_format", json_schema(schema({"second", "first"}))},
                     {"reasoning_effort", "none"}};
    std::string first, other;
    EXPECT_EQ(n_compiled([&] { first = content(ab); }), 1);
    const double hits = count("hits_total");
    for (int i = 0; i < 2; ++i) {
        EXPECT_EQ(n_compiled([&] { EXPECT_EQ(content(ab), first); }), 0);
    }
    EXPECT_EQ(count("hits_total"), hits + 2);
    EXPECT_GT(count("bytes"), 1000);
    EXPECT_EQ(n_compiled([&] { other = content(ba); }), 1);
    EXPECT_LT(first.find("first"), first.find("second")) << first;
    EXPECT_LT(other.find("second"), other.find("first")) << other;

    const auto call = [&] { forced({{"parallel_tool_calls", false}}); };
    EXPECT_EQ(n_compiled(call) + n_compiled(call), 1);
    const auto refused = [&] {
        EXPECT_EQ(post("/v1/chat/completions", base({{"guided_regex", "("}})).status, 400);
    };
    EXPECT_EQ(n_compiled(refused) + n_compiled(refused), 2);
}

// Before a token is made, with the place.
// Held to them or not: who sends what is no schema wants to know.
TEST_F(ConstraintsTest, ToolsWhoseParametersAreNoSchemaAreRefusedInEveryDialect) {
    for (const Json& bad :
         {Json{{"type", 5}}, Json{{"properties", 3}}, Json{{"type", "object"}, {"required", "a"}},
          Json{{"type", "object"}, {"properties", {{"a", {{"maximum", true}}}}}}}) {
        const Json function = {{"name", "f"}, {"parameters", bad}};
        const Json tool = {{"type", "function"}, {"function", function}};
        const auto refused = [&](const char* path, Json body, const std::string& param) {
            body["model"] = "demo-5m";
            const Reply r = post(path, body);
            EXPECT_EQ(r.status, 400) << path << bad << r.body;
            if (param.empty()) return;
            EXPECT_EQ(r.json()["error"]["param"], param) << path << r.body;
        };
        for (const char* choice : {"auto", "none", "required"}) {
            refused("/v1/chat/completions",
                    {{"messages", question}, {"max_tokens", 1}, {"tools", {tool}}, {"tool_choice", choice}},
                    "tools[0].function.parameters");
        }
        refused("/v1/responses",
                {{"input", "a"}, {"tools", {{{"type", "function"}, {"name", "f"}, {"parameters", bad}}}}},
                "tools[0].parameters");
        refused(
            "/v1/messages",
            {{"messages", question}, {"max_tokens", 1}, {"tools", {{{"name", "f"}, {"input_schema", bad}}}}},
            "tools[0].input_schema");
        refused("/api/chat", {{"messages", question}, {"stream", false}, {"tools", {tool}}}, "");
    }
}

TEST_F(ConstraintsTest, WhatCannotBeEnforcedIsRefused) {
    const std::tuple<Json, const char*, const char*> wrong[] = {
        {{{"response_format", json_schema({{"type", "array"}, {"uniqueItems", true}})}},
         "response_format.json_schema.schema",
         "invalid_schema"},
        {{{"response_format", json_schema({{"type", 5}})}},
         "response_format.json_schema.schema",
         "invalid_schema"},
        {{{"response_format", json_schema({{"$ref", "http://127.0.0.1:1/x.json"}})}},
         "response_format.json_schema.schema",
         "invalid_schema"},
        {{{"response_format", {{"type", "poem"}}}}, "response_format.type", "invalid_value"},
        {{{"response_format", {{"type", "json_schema"}}}},
         "response_format.json_schema",
         "missing_required_parameter"},
        {{{"guided_regex", "("}}, "guided_regex", "invalid_schema"},
        {{{"grammar", "root ::= ("}}, "grammar", "invalid_schema"},
        {{{"guided_json", "{"}}, "guided_json", "invalid_value"},
        {{{"guided_choice", Json::array()}}, "guided_choice", "invalid_value"},
        {{{"guided_regex", "a"}, {"grammar", "root ::= \"a\""}}, "grammar", "invalid_value"},
        {{{"tools",
           {{{"type", "function"},
             {"function", {{"name", "f"}, {"strict", true}, {"parameters", {{"type", "nix"}}}}}}}}},
         "tools[0].function.parameters",
         "invalid_schema"},
    };
    for (const auto& [more, param, code] : wrong) {
        const Reply r = post("/v1/chat/completions", base(more));
        EXPECT_EQ(r.status, 400) << more;
        EXPECT_EQ(r.param(), param) << r.body;
        EXPECT_EQ(r.code(), code) << r.body;
    }
    const Reply responses =
        post("/v1/responses",
             {{"input", "Hi"},
              {"text", {{"format", {{"type", "json_schema"}, {"name", "x"}, {"schema", {{"type", 5}}}}}}}});
    EXPECT_EQ(responses.param(), "text.format.schema") << responses.body;
    const Reply ollama = post("/api/chat", {{"format", {{"type", 5}}}, {"messages", question}});
    EXPECT_EQ(ollama.status, 400);
    EXPECT_TRUE(ollama.json()["error"].get<std::string>().starts_with("format")) << ollama.body;
}

}  // namespace
}  // namespace smelt
