// What each dialect's conversation becomes: the same messages, whatever the words. The model's template shows
// them in an error.
#include "server/model_copy.h"

namespace smelt {
namespace {

const Json user = {{"role", "user"}, {"content", "q"}};
const Json only_user = Json::array({user});

class DialectsTest : public ::testing::Test {
 protected:
    static void SetUpTestSuite() {
        copy_ = new ModelCopy("shown");
        copy_->set_template("{% if false %}<tool_call>{% endif %}{{ raise_exception(messages | tojson) }}");
        TestServerOptions options;
        options.models = {};
        options.specs = {{.name = "m", .path = copy_->path()}};
        server_ = new TestServer(options);
    }
    static void TearDownTestSuite() {
        delete server_;
        delete copy_;
    }

    Reply post(const std::string& path, const Json& body) {
        return Client(server_->port()).ask("POST", path, to_string(body));
    }
    // What the template got; null where the request was refused before.
    Json seen(const std::string& path, const Json& body) {
        const Json answer = post(path, body).json();
        const Json& error = answer.at("error");
        const std::string text = error.is_string() ? error : error.at("message");
        const size_t at = text.find("[{");
        return at == std::string::npos ? Json() : parse_json(text.substr(at), "messages");
    }
    // Results of calls, in the order of the calls.
    std::vector<std::string> results(const Json& messages) {
        std::vector<std::string> texts;
        for (const Json& m : messages) {
            for (const Json& call : m.value("tool_calls", Json::array())) {
                std::string text = "none";
                for (const Json& r : messages) {
                    if (r["role"] == "tool" && r["tool_call_id"] == call["id"]) text = r["content"];
                }
                texts.push_back(text);
            }
        }
        return texts;
    }

    inline static ModelCopy* copy_ = nullptr;
    inline static TestServer* server_ = nullptr;
};

Json openai_call(const std::string& id, int n) {
    return {{"id", id},
            {"type", "function"},
            {"function", {{"name", "run"}, {"arguments", fmt::format(R"({{"n": {}}})", n)}}}};
}
Json openai_result(const std::string& id, const std::string& text) {
    return {{"role", "tool"}, {"tool_call_id", id}, {"content", text}};
}

using Texts = std::vector<std::string>;

// Two calls of one function, whose results come the other way round: by id in each dialect that has ids.
TEST_F(DialectsTest, ResultsGoToTheCallsThatTheyName) {
    const Json chat =
        seen("/v1/chat/completions",
             {{"messages",
               {user,
                {{"role", "assistant"}, {"tool_calls", {openai_call("x", 1), openai_call("y", 2)}}},
                openai_result("y", "two"),
                openai_result("x", "one")}}});
    EXPECT_EQ(results(chat), (Texts{"one", "two"}));

    const auto item = [](const char* id, int n) -> Json {
        return {{"type", "function_call"},
                {"call_id", id},
                {"name", "run"},
                {"arguments", fmt::format(R"({{"n": {}}})", n)}};
    };
    const auto output = [](const char* id, const char* text) -> Json {
        return {{"type", "function_call_output"}, {"call_id", id}, {"output", text}};
    };
    const Json responses =
        seen("/v1/responses",
             {{"input", {user, item("x", 1), item("y", 2), output("y", "two"), output("x", "one")}}});
    EXPECT_EQ(results(responses), (Texts{"one", "two"}));

    const auto use = [](const char* id, int n) -> Json {
        return {{"type", "tool_use"}, {"id", id}, {"name", "run"}, {"input", {{"n", n}}}};
    };
    const auto result = [](const char* id, const char* text) -> Json {
        return {{"type", "tool_result"}, {"tool_use_id", id}, {"content", text}};
    };
    const Json anthropic =
        seen("/v1/messages", {{"max_tokens", 5},
                              {"messages",
                               {user,
                                {{"role", "assistant"}, {"content", {use("x", 1), use("y", 2)}}},
                                {{"role", "user"}, {"content", {result("y", "two"), result("x", "one")}}}}}});
    EXPECT_EQ(results(anthropic), (Texts{"one", "two"}));

    const auto call = [](Json id, int n) {
        Json c = {{"function", {{"name", "run"}, {"arguments", {{"n", n}}}}}};
        if (!id.is_null()) c["id"] = id;
        return c;
    };
    const auto ollama = [&](bool ids) {
        Json two = {{"role", "tool"}, {"content", "two"}}, one = {{"role", "tool"}, {"content", "one"}};
        if (ids) {
            two["tool_call_id"] = "y";
            one["tool_call_id"] = "x";
        }
        const Json calls = {call(ids ? Json("x") : Json(), 1), call(ids ? Json("y") : Json(), 2)};
        return seen("/api/chat",
                    {{"messages", {user, {{"role", "assistant"}, {"tool_calls", calls}}, two, one}}});
    };
    EXPECT_EQ(results(ollama(true)), (Texts{"one", "two"}));
    EXPECT_EQ(results(ollama(false)), (Texts{"two", "one"})) << "without ids the order counts";
}

// Most templates write no ids, so the model takes the first result for the first call's.
TEST_F(DialectsTest, ResultsAreWrittenInTheOrderOfTheirCalls) {
    const Json messages =
        seen("/v1/chat/completions",
             {{"messages",
               {user,
                {{"role", "assistant"},
                 {"tool_calls", {openai_call("x", 1), openai_call("y", 2), openai_call("z", 3)}}},
                openai_result("z", "three"),
                openai_result("x", "one"),
                openai_result("y", "two"),
                user}}});
    ASSERT_EQ(messages.size(), 6u);
    EXPECT_EQ(messages[2]["content"], "one");
    EXPECT_EQ(messages[3]["content"], "two");
    EXPECT_EQ(messages[4]["content"], "three");
}

// Some models count their calls from 0 in every turn, and a turn may have been left without a result.
TEST_F(DialectsTest, AnIdThatComesAgainMeansTheLatestCall) {
    const Json call = {{"role", "assistant"}, {"tool_calls", Json::array({openai_call("call_0", 1)})}};
    const Json messages =
        seen("/v1/chat/completions",
             {{"messages", {user, call, user, call, openai_result("call_0", "late"), user}}});
    EXPECT_EQ(results(messages), (Texts{"none", "late"}));
    // A second result of one call belongs to it too.
    const Json twice =
        seen("/v1/chat/completions",
             {{"messages", {user, call, openai_result("call_0", "a"), openai_result("call_0", "b")}}});
    ASSERT_EQ(twice.size(), 4u);
    EXPECT_EQ(twice[2]["tool_call_id"], twice[3]["tool_call_id"]);
}

TEST_F(DialectsTest, OlderFunctionsHaveNoIds) {
    const auto call = [](const char* name) -> Json {
        return {{"role", "assistant"},
                {"content", nullptr},
                {"function_call", {{"name", name}, {"arguments", "{}"}}}};
    };
    const Json messages =
        seen("/v1/chat/completions", {{"messages",
                                       {user,
                                        call("f"),
                                        {{"role", "function"}, {"name", "f"}, {"content", "of f"}},
                                        call("g"),
                                        {{"role", "function"}, {"name", "g"}, {"content", "of g"}}}}});
    EXPECT_EQ(results(messages), (Texts{"of f", "of g"}));
    const Reply r = post("/v1/chat/completions",
                         {{"messages", {user, {{"role", "function"}, {"name", "h"}, {"content", "x"}}}}});
    EXPECT_EQ(r.param(), "messages[1].name") << r.body;
}

TEST_F(DialectsTest, ResultsWithoutACallAreRefusedWithTheirPlace) {
    EXPECT_EQ(post("/v1/chat/completions", {{"messages", {user, openai_result("x", "one")}}}).param(),
              "messages[1].tool_call_id");
    EXPECT_EQ(post("/v1/responses",
                   {{"input", {user, {{"type", "function_call_output"}, {"call_id", "x"}, {"output", ""}}}}})
                  .param(),
              "input[1].call_id");
    EXPECT_EQ(
        post("/v1/messages",
             {{"max_tokens", 1},
              {"messages",
               Json::array({{{"role", "user"},
                             {"content", Json::array({{{"type", "tool_result"}, {"tool_use_id", "x"}}})}}})}})
            .json()["error"]["param"],
        "messages[0].content[0].tool_use_id");
    for (const Json& result : {Json{{"role", "tool"}, {"content", "x"}},
                               Json{{"role", "tool"}, {"content", "x"}, {"tool_name", "f"}},
                               Json{{"role", "tool"}, {"content", "x"}, {"tool_call_id", "c"}}}) {
        const Reply r = post("/api/chat", {{"messages", {user, result}}});
        EXPECT_EQ(r.status, 400) << result;
        EXPECT_TRUE(r.json()["error"].get<std::string>().starts_with("messages[1]: a result")) << r.body;
    }
}

TEST_F(DialectsTest, ReasoningIsTakenByEachOfItsNames) {
    for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
        const Json messages =
            seen("/v1/chat/completions",
                 {{"messages", {user, {{"role", "assistant"}, {"content", "a"}, {name, "WHY"}}, user}}});
        EXPECT_EQ(messages[1]["reasoning_content"], "WHY") << name;
    }
    const auto block = [](const char* text) -> Json {
        return {{"type", "thinking"}, {"thinking", text}, {"signature", ""}};
    };
    const Json anthropic =
        seen("/v1/messages",
             {{"max_tokens", 1},
              {"messages",
               {user,
                {{"role", "assistant"},
                 {"content", {block("first"), block("second"), {{"type", "text"}, {"text", "a"}}}}},
                user}}});
    EXPECT_EQ(anthropic[1]["reasoning_content"], "first\nsecond") << "several blocks";
    EXPECT_EQ(anthropic[1]["content"], "a");
    const Json responses = seen(
        "/v1/responses",
        {{"input",
          {user,
           {{"type", "reasoning"}, {"summary", Json::array({{{"type", "summary_text"}, {"text", "WHY"}}})}},
           {{"type", "message"}, {"role", "assistant"}, {"content", "a"}},
           user}}});
    ASSERT_EQ(responses.size(), 3u) << "one turn";
    EXPECT_EQ(responses[1]["reasoning_content"], "WHY");
}

TEST_F(DialectsTest, ARefusalIsTextOfTheAssistants) {
    const Json part = {{"type", "refusal"}, {"refusal", "no"}};
    const Json parts = {{"role", "assistant"},
                        {"content", Json::array({{{"type", "text"}, {"text", "I say "}}, part})}};
    EXPECT_EQ(seen("/v1/chat/completions", {{"messages", {user, parts, user}}})[1]["content"], "I say no");
    const Json beside = {{"role", "assistant"}, {"content", nullptr}, {"refusal", "no"}};
    EXPECT_EQ(seen("/v1/chat/completions", {{"messages", {user, beside, user}}})[1]["content"], "no");
    const Json item = {{"type", "message"}, {"role", "assistant"}, {"content", Json::array({part})}};
    EXPECT_EQ(seen("/v1/responses", {{"input", {user, item, user}}})[1]["content"], "no");
    const Json from_user = {{"role", "user"}, {"content", Json::array({part})}};
    EXPECT_EQ(post("/v1/chat/completions", {{"messages", Json::array({from_user})}}).param(),
              "messages[0].content[0].type");
}

TEST_F(DialectsTest, AnEmptySystemIsNone) {
    const Json of_anthropic =
        seen("/v1/messages", {{"max_tokens", 1}, {"system", ""}, {"messages", only_user}});
    EXPECT_EQ(of_anthropic.size(), 1u) << of_anthropic;
    EXPECT_EQ(
        seen("/v1/messages", {{"max_tokens", 1}, {"system", Json::array()}, {"messages", only_user}}).size(),
        1u);
    EXPECT_EQ(seen("/v1/responses", {{"instructions", ""}, {"input", "q"}}).size(), 1u);
    EXPECT_EQ(seen("/api/generate", {{"system", ""}, {"prompt", "q"}}).size(), 1u);
    EXPECT_EQ(seen("/generate", {{"system", ""}, {"prompt", "q"}}).size(), 1u);
    EXPECT_EQ(seen("/generate", {{"system", "s"}, {"prompt", "q"}}).size(), 2u);
}

// What templates of published models do, each served under its own name.
class TemplatesTest : public ::testing::Test {
 protected:
    static constexpr std::pair<const char*, const char*> sources[] = {
        {"one_system",
         "{% for m in messages %}{% if m.role == 'system' and not loop.first %}{{ raise_exception('one, in "
         "front') }}"
         "{% endif %}[{{ m.role }}]{{ m.content }}{% endfor %}"},
        {"no_system",
         "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('System role not supported') "
         "}}{% endif %}"
         "[{{ m.role }}]{{ m.content }}{% endfor %}"},
        {"wants_text",
         "{% for m in messages %}[{{ m.role }}]{% for t in m.tool_calls or [] %}{{ '<' + "
         "t.function.arguments + '>' }}"
         "{% endfor %}{% endfor %}"},
        {"wants_object",
         "{% for m in messages %}[{{ m.role }}]{% for t in m.tool_calls or [] %}{% for k, v in "
         "t.function.arguments.items() "
         "%}{{ k }}={{ v }}{% endfor %}{% endfor %}{% endfor %}"},
        {"reads_thinking",
         "{% for m in messages %}{% if 'thinking' in m %}<{{ m.thinking }}>{% endif %}{{ m.content }}{% "
         "endfor %}"},
        {"reads_reasoning",
         "{% for m in messages %}{% if m.reasoning %}<{{ m.reasoning }}>{% endif %}{% endfor %}"},
        {"asks_none",
         "{% if tools is not none %}TOOLS{% endif %}{% if documents is not none %}DOCUMENTS{% endif %}"
         "{{ messages[0].content }}"},
        {"special_tokens",
         "{{ eos_token }}|{{ pad_token }}|{{ unk_token is defined }}|{{ messages[0].content }}"},
        {"describes",
         "{% for t in tools %}{{ '//' + t.function.description }}{{ t.function.parameters.type + ';' }}{% "
         "endfor %}"}};

    static void SetUpTestSuite() {
        TestServerOptions options;
        options.models = {};
        for (const auto& [name, source] : sources) {
            copies_.push_back(std::make_unique<ModelCopy>(name));
            copies_.back()->set_template(source);
            options.specs.push_back({.name = name, .path = copies_.back()->path()});
        }
        copies_.push_back(std::make_unique<ModelCopy>("two_templates"));
        Json config = Json::parse(copies_.back()->read("tokenizer_config.json"));
        config["chat_template"] =
            parse_json(R"([{"name": "default", "template": "D{{ messages[0].content }}"},
            {"name": "tool_use", "template": "T{{ messages[0].content }}{{ tools | length }}"}])",
                       "templates");
        copies_.back()->write("tokenizer_config.json", config.dump());
        std::filesystem::remove(std::filesystem::path(copies_.back()->path()) / "chat_template.jinja");
        options.specs.push_back({.name = "two_templates", .path = copies_.back()->path()});
        server_ = new TestServer(options);
    }
    static void TearDownTestSuite() {
        delete server_;
        copies_.clear();
    }
    std::string prompt(const char* model, Json messages, const Json& more = Json::object()) {
        Json body = {{"model", model}, {"messages", std::move(messages)}};
        body.update(more);
        const Json answer = Client(server_->port()).ask("POST", "/apply-template", to_string(body)).json();
        return answer.contains("prompt") ? answer["prompt"].get<std::string>() : to_string(answer);
    }

    inline static std::vector<std::unique_ptr<ModelCopy>> copies_;
    inline static TestServer* server_ = nullptr;
};

const Json system_a = {{"role", "system"}, {"content", "A"}},
           developer_b = {{"role", "developer"}, {"content", "B"}};

// As transformers gives them: those that the tokenizer has.
TEST_F(TemplatesTest, TheyKnowThePaddingTokenAndNoUnknownOne) {
    EXPECT_EQ(prompt("special_tokens", {user}), "<|im_end|>|<|endoftext|>|False|q");
}

TEST_F(TemplatesTest, SeveralSystemMessagesAreJoinedWhereATemplateTakesOne) {
    EXPECT_EQ(prompt("one_system", {system_a, developer_b, user}), "[system]A\n\nB[user]q");
    EXPECT_EQ(prompt("one_system", {system_a, user, developer_b, user}), "[system]A\n\nB[user]q[user]q");
    EXPECT_EQ(prompt("one_system", {user, system_a}), "[system]A[user]q") << "the only one, but later";
    EXPECT_EQ(prompt("no_system", {system_a, user}), "[user]A\n\nq");
    EXPECT_EQ(prompt("no_system", {system_a, developer_b, user}), "[user]A\n\nB\n\nq");
    EXPECT_EQ(prompt("no_system", {user, user}), "[user]q[user]q");
}

TEST_F(TemplatesTest, ArgumentsAreTextWhereATemplateWantsText) {
    const Json messages = {user,
                           {{"role", "assistant"}, {"tool_calls", Json::array({openai_call("c", 1)})}},
                           openai_result("c", "r")};
    EXPECT_EQ(prompt("wants_text", messages), "[user][assistant]<{\"n\": 1}>[tool]");
    EXPECT_EQ(prompt("wants_object", messages), "[user][assistant]n=1[tool]");
}

TEST_F(TemplatesTest, ReasoningReachesThemByTheNameThatTheyRead) {
    for (const char* name : {"reasoning_content", "reasoning", "thinking"}) {
        const Json messages = {user, {{"role", "assistant"}, {"content", "a"}, {name, "WHY"}}, user};
        EXPECT_EQ(prompt("reads_thinking", messages), "q<WHY>aq") << name;
        EXPECT_EQ(prompt("reads_reasoning", messages), "<WHY>") << name;
    }
}

TEST_F(TemplatesTest, ToolsAndDocumentsAreNoneWhereThereAreNone) {
    const Json tool = {{"type", "function"}, {"function", {{"name", "f"}}}};
    const Json tools = {{"tools", Json::array({tool})}};
    EXPECT_EQ(prompt("asks_none", only_user), "q");
    EXPECT_EQ(prompt("asks_none", only_user, tools), "TOOLSq");
    EXPECT_EQ(prompt("asks_none", only_user, {{"tools", tools["tools"]}, {"tool_choice", "none"}}), "q");
    EXPECT_EQ(prompt("describes", only_user, tools), "//object;");
    EXPECT_EQ(prompt("two_templates", only_user), "Dq");
    EXPECT_EQ(prompt("two_templates", only_user, tools), "Tq1");
}

// Tools that run elsewhere are left out, and the client is told.
TEST(ForeignTools, AreLeftOutWithAWarning) {
    TestServer server({.models = {"demo-23m"}});
    const auto post = [&](const char* path, const Json& body) {
        return Client(server.port()).ask("POST", path, to_string(body)).json();
    };
    const Json function = {{"type", "function"},
                           {"name", "run"},
                           {"parameters", {{"type", "object"}, {"properties", Json::object()}}}};
    const Json r = post(
        "/v1/responses",
        {{"input", "q"},
         {"max_output_tokens", 2},
         {"tools", {{{"type", "web_search"}}, function, {{"type", "custom"}, {"name", "apply_patch"}}}}});
    ASSERT_EQ(r["tools"].size(), 1u) << r;
    EXPECT_EQ(r["tools"][0]["name"], "run");
    ASSERT_EQ(r["warnings"].size(), 2u) << r;
    EXPECT_TRUE(r["warnings"][0].get<std::string>().starts_with("tools[0]: ")) << r["warnings"];
    EXPECT_NE(r["warnings"][1].get<std::string>().find("custom"), std::string::npos) << r["warnings"];

    const Json a = post("/v1/messages", {{"max_tokens", 2},
                                         {"messages", only_user},
                                         {"tools",
                                          {{{"type", "web_search_20250305"}, {"name", "web_search"}},
                                           {{"name", "run"}, {"input_schema", {{"type", "object"}}}}}}});
    EXPECT_EQ(a["type"], "message") << a;
    EXPECT_EQ(a["warnings"].size(), 1u) << a;
    // Where one of them must be called, there is nothing that could be.
    const Json forced = post(
        "/v1/responses",
        {{"input", "q"}, {"tools", Json::array({{{"type", "web_search"}}})}, {"tool_choice", "required"}});
    EXPECT_EQ(forced["error"]["param"], "tool_choice") << forced;
}

}  // namespace
}  // namespace smelt
