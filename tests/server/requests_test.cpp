// What requests may say beyond OpenAI's own fields, and what they may not: every field is acted on, refused,
// or named in the answer's warnings.
#include "server/model_copy.h"

#include "server/api_fixture.h"

namespace smelt {
namespace {

class RequestsTest : public ApiTest {
 protected:
    Json chat(const Json& more, int status = 200) {
        Json body = {{"model", "demo-23m"}, {"temperature", 0}, {"max_tokens", 8}, {"messages", question}};
        body.update(more);
        const Reply r = post("/v1/chat/completions", body);
        EXPECT_EQ(r.status, status) << r.body;
        return r.json();
    }
    Json completion(const Json& more, int status = 200) {
        Json body = {{"model", "demo-5m"}, {"temperature", 0}, {"max_tokens", 8}, {"prompt", "One two"}};
        body.update(more);
        const Reply r = post("/v1/completions", body);
        EXPECT_EQ(r.status, status) << r.body;
        return r.json();
    }
    int n_tokens(const std::string& text) {
        return post("/tokenize", {{"model", "demo-23m"}, {"content", text}}).json()["count"];
    }
    int n_prompt_tokens(const Json& messages, bool opens) {
        return post("/apply-template", {{"model", "demo-23m"},
                                        {"messages", messages},
                                        {"add_generation_prompt", opens},
                                        {"enable_thinking", false}})
            .json()["n_tokens"];
    }
};

const Json begun = Json::array({question[0], {{"role", "assistant"}, {"content", "The answer is "}}});

TEST_F(RequestsTest, ALastMessageOfTheAssistantsGoesOn) {
    const std::string prompt =
        post("/apply-template", {{"model", "demo-23m"}, {"messages", begun}}).json()["prompt"];
    EXPECT_TRUE(prompt.ends_with("The answer is ")) << prompt;
    const std::string asked =
        post("/apply-template",
             {{"model", "demo-23m"}, {"messages", begun}, {"continue_final_message", true}})
            .json()["prompt"];
    EXPECT_EQ(asked, prompt);
    const std::string closed =
        post("/apply-template", {{"model", "demo-23m"}, {"messages", begun}, {"add_generation_prompt", true}})
            .json()["prompt"];
    EXPECT_NE(closed.find("The answer is"), std::string::npos);
    EXPECT_TRUE(closed.ends_with("<|im_start|>assistant\n")) << closed;

    const int n = post("/apply-template", {{"model", "demo-23m"}, {"messages", begun}}).json()["n_tokens"];
    EXPECT_EQ(chat({{"messages", begun}})["usage"]["prompt_tokens"], n);
    const Json anthropic =
        post("/v1/messages", {{"model", "demo-23m"}, {"max_tokens", 4}, {"messages", begun}}).json();
    EXPECT_EQ(anthropic["usage"]["input_tokens"].get<int>() +
                  anthropic["usage"]["cache_read_input_tokens"].get<int>(),
              n)
        << anthropic;
    const Json ollama = post("/api/chat", {{"model", "demo-23m"},
                                           {"stream", false},
                                           {"messages", begun},
                                           {"options", {{"num_predict", 2}}}})
                            .json();
    EXPECT_EQ(ollama["prompt_eval_count"], n) << ollama;
    const Json responses =
        post("/v1/responses", {{"model", "demo-23m"}, {"max_output_tokens", 2}, {"input", begun}}).json();
    EXPECT_EQ(responses["usage"]["input_tokens"], n) << responses;
}

TEST_F(RequestsTest, ContinuationsThatContradictThemselvesAreRefused) {
    EXPECT_EQ(chat({{"messages", begun}, {"continue_final_message", true}, {"add_generation_prompt", true}},
                   400)["error"]["param"],
              "continue_final_message");
    EXPECT_EQ(chat({{"continue_final_message", true}}, 400)["error"]["param"], "continue_final_message");
    const Json called = Json::array(
        {question[0],
         {{"role", "assistant"},
          {"content", "x"},
          {"tool_calls", Json::array({{{"id", "a"}, {"function", {{"name", "f"}, {"arguments", "{}"}}}}})}}});
    EXPECT_EQ(chat({{"messages", called}, {"continue_final_message", true}}, 400)["error"]["param"],
              "continue_final_message");
    EXPECT_EQ(chat({{"messages", called}})["object"], "chat.completion") << "a new turn";
}

TEST_F(RequestsTest, ASlipOfAFieldIsRefusedWithTheRightName) {
    struct Case {
        const char* path;
        const char* wrong;
        const char* right;
    };
    const Case cases[] = {{"/v1/chat/completions", "max_token", "max_tokens"},
                          {"/v1/chat/completions", "temprature", "temperature"},
                          {"/v1/chat/completions", "tempertaure", "temperature"},
                          {"/v1/chat/completions", "maxTokens", "max_tokens"},
                          {"/v1/chat/completions", "top-p", "top_p"},
                          {"/v1/chat/completions", "tool", "tools"},
                          {"/v1/completions", "promt", "prompt"},
                          {"/generate", "systen", "system"},
                          {"/v1/responses", "instruction", "instructions"},
                          {"/v1/messages", "stop_sequence", "stop_sequences"},
                          {"/api/chat", "mesages", "messages"},
                          {"/api/generate", "streem", "stream"},
                          {"/v1/embeddings", "inputs", "input"},
                          {"/tokenize", "contents", "content"}};
    for (const Case& c : cases) {
        Json body;
        for (const Route& route : routes()) {
            if (route.path == std::string_view(c.path) && route.body != nullptr) {
                body = Json::parse(route.body->example);
            }
        }
        body[c.wrong] = 1;
        const Reply r = post(c.path, body);
        EXPECT_EQ(r.status, 400) << c.path << r.body;
        EXPECT_NE(r.body.find(fmt::format("did you mean {}?", c.right)), std::string::npos) << r.body;
    }
    const Reply options = post("/api/chat", {{"messages", question}, {"options", {{"num_predikt", 5}}}});
    EXPECT_NE(options.body.find("options.num_predikt: no such parameter; did you mean options.num_predict?"),
              std::string::npos)
        << options.body;
}

TEST_F(RequestsTest, OtherUnknownFieldsAreNamedInWarnings) {
    const std::string expected = "colour: no such parameter, ignored";
    const Json more = {{"colour", "blue"}};
    EXPECT_EQ(chat(more)["warnings"], Json::array({expected}));
    EXPECT_EQ(completion(more)["warnings"], Json::array({expected}));
    EXPECT_FALSE(chat(Json::object()).contains("warnings"));
    // Another server's field that only looks like a slip.
    EXPECT_EQ(chat({{"top_a", 0.1}})["warnings"].size(), 1u);
    for (const Route& route : routes()) {
        if (route.body == nullptr || route.access == Access::admin) continue;
        if (std::string_view(route.path) == "/infill") continue;  // needs marks that demo-23m lacks
        if (std::string_view(route.path) == "/v2/repository/index")
            continue;  // an array has no place for them
        Json body = Json::parse(route.body->example);
        body["model"] = "demo-23m";
        body["colour"] = "blue";
        body["stream"] = false;
        if (std::string_view(route.path).find("embed") != std::string_view::npos ||
            std::string_view(route.path).find("token") != std::string_view::npos ||
            std::string_view(route.path).find("template") != std::string_view::npos ||
            std::string_view(route.path) == "/api/show") {
            body.erase("stream");
        }
        const Reply r = post(asked_path(route.path), body);
        EXPECT_EQ(r.status, 200) << route.path << r.body;
        EXPECT_NE(r.body.find(expected), std::string::npos) << route.path << r.body;
    }
    const Reply streamed =
        post("/v1/chat/completions",
             {{"messages", question}, {"max_tokens", 2}, {"stream", true}, {"colour", "blue"}});
    EXPECT_NE(streamed.body.find(expected), std::string::npos);
    const Reply ollama =
        post("/api/generate",
             {{"prompt", "a"}, {"stream", false}, {"options", {{"num_ctx", 4096}, {"num_predict", 1}}}});
    EXPECT_EQ(ollama.json()["warnings"], Json::array({"options.num_ctx: not used here"})) << ollama.body;
}

TEST_F(RequestsTest, MinusOneIsNoLimit) {
    for (const char* name : {"max_tokens", "max_completion_tokens", "n_predict"}) {
        Json body = {{"model", "demo-23m"}, {"temperature", 0}, {"messages", question}, {name, -1}};
        const Reply r = post("/v1/chat/completions", body);
        EXPECT_EQ(r.status, 200) << name << r.body;
        EXPECT_EQ(r.json()["choices"][0]["finish_reason"], "stop") << name;
        body[name] = 0;
        EXPECT_EQ(post("/v1/chat/completions", body).param(), name);
        body[name] = -2;
        EXPECT_EQ(post("/v1/chat/completions", body).param(), name);
    }
    EXPECT_GT(completion({{"max_tokens", -1}})["usage"]["completion_tokens"].get<int>(), 16);
    EXPECT_EQ(
        completion(
            {{"max_tokens", nullptr}, {"n_predict", 3}, {"ignore_eos", true}})["usage"]["completion_tokens"],
        3);
    EXPECT_EQ(post("/generate", {{"prompt", "a"}, {"model", "demo-23m"}, {"max_tokens", -1}}).status, 200);
    EXPECT_EQ(post("/v1/responses",
                   {{"input", "What is 12 + 30?"}, {"model", "demo-23m"}, {"max_output_tokens", -1}})
                  .status,
              200);
}

TEST_F(RequestsTest, StopTokenIdsEndTheAnswerBeforeThem) {
    const Json free = completion({{"logprobs", 0}, {"max_tokens", 6}, {"ignore_eos", true}});
    const std::string second = free["choices"][0]["logprobs"]["tokens"][1];
    const Json ids = post("/tokenize", {{"model", "demo-5m"}, {"content", second}}).json()["tokens"];
    ASSERT_EQ(ids.size(), 1u) << second;
    const Json stopped = completion({{"stop_token_ids", ids}, {"max_tokens", 6}});
    EXPECT_EQ(stopped["choices"][0]["text"], free["choices"][0]["logprobs"]["tokens"][0]);
    EXPECT_EQ(stopped["choices"][0]["finish_reason"], "stop");
    EXPECT_EQ(completion({{"stop_token_ids", {1 << 30}}}, 400)["error"]["param"], "stop_token_ids");
    EXPECT_EQ(completion({{"stop_token_ids", ids}, {"ignore_eos", true}}, 400)["error"]["param"],
              "stop_token_ids");
    EXPECT_EQ(completion({{"stop_token_ids", std::vector<int>(129, 5)}}, 400)["error"]["param"],
              "stop_token_ids");
}

TEST_F(RequestsTest, ThinkingIsTurnedOffAtTheTopLevelToo) {
    const auto prompt = [&](const Json& more) -> std::string {
        Json body = {{"model", "demo-23m"}, {"messages", question}};
        body.update(more);
        return post("/apply-template", body).json()["prompt"];
    };
    const std::string off = prompt({{"chat_template_kwargs", {{"enable_thinking", false}}}});
    EXPECT_NE(off, prompt(Json::object()));
    EXPECT_EQ(prompt({{"enable_thinking", false}}), off);
    EXPECT_EQ(prompt({{"reasoning_effort", "none"}}), off);
    EXPECT_FALSE(chat({{"enable_thinking", false}, {"max_tokens", 200}})["choices"][0]["message"].contains(
        "reasoning_content"));
    EXPECT_EQ(chat({{"enable_thinking", false}, {"chat_template_kwargs", {{"enable_thinking", true}}}},
                   400)["error"]["param"],
              "enable_thinking");
    EXPECT_EQ(chat({{"enable_thinking", "no"}}, 400)["error"]["param"], "enable_thinking");
}

TEST_F(RequestsTest, LogProbabilitiesOfThePromptAreVllms) {
    const Json c =
        completion({{"prompt", "One two three"}, {"prompt_logprobs", 2}, {"max_tokens", 1}})["choices"][0];
    const int n = post("/tokenize", {{"model", "demo-5m"}, {"content", "One two three"}}).json()["count"];
    ASSERT_EQ(c["prompt_logprobs"].size(), static_cast<size_t>(n)) << c;
    EXPECT_TRUE(c["prompt_logprobs"][0].is_null());
    EXPECT_TRUE(c["logprobs"].is_null()) << "those of the answer were not asked for";
    for (size_t i = 1; i < c["prompt_logprobs"].size(); ++i) {
        const Json& place = c["prompt_logprobs"][i];
        EXPECT_GE(place.size(), 2u);
        EXPECT_LE(place.size(), 3u);
        std::vector<int> ranks;
        for (const auto& [id, entry] : place.items()) {
            EXPECT_LE(entry["logprob"].get<double>(), 0);
            EXPECT_TRUE(entry["decoded_token"].is_string());
            if (entry["rank"].is_number()) ranks.push_back(entry["rank"]);
        }
        std::ranges::sort(ranks);
        EXPECT_EQ(ranks, (std::vector{1, 2}));
    }
    // The same numbers as echo gives.
    const Json echo = completion({{"prompt", "One two three"},
                                  {"echo", true},
                                  {"logprobs", 1},
                                  {"max_tokens", 1}})["choices"][0]["logprobs"];
    const Json ids = post("/tokenize", {{"model", "demo-5m"}, {"content", "One two three"}}).json()["tokens"];
    for (size_t i = 1; i < static_cast<size_t>(n); ++i) {
        EXPECT_FLOAT_EQ(c["prompt_logprobs"][i][to_string(ids[i])]["logprob"].get<float>(),
                        echo["token_logprobs"][i].get<float>());
    }
    const Json of_chat = chat({{"prompt_logprobs", 0}});
    EXPECT_EQ(of_chat["prompt_logprobs"].size(), of_chat["usage"]["prompt_tokens"].get<size_t>());
}

// As Python's clients slice: by characters, not by bytes.
TEST_F(RequestsTest, TextOffsetsCountCharacters) {
    const std::u32string text = U"Gr\u00fc\u00dfe \u4f60\u597d \U0001F642 x";
    const std::string bytes = "Gr\u00fc\u00dfe \u4f60\u597d \U0001F642 x";
    for (const bool stream : {false, true}) {
        Json body = {{"model", "demo-5m"}, {"prompt", bytes}, {"echo", true},
                     {"logprobs", 0},      {"max_tokens", 0}, {"stream", stream}};
        const Reply r = post("/v1/completions", body);
        Json l;
        if (stream) {
            for (const Json& e : events(r.body)) {
                if (e.is_object() && !e["choices"][0]["logprobs"].is_null()) l = e["choices"][0]["logprobs"];
            }
        } else {
            l = r.json()["choices"][0]["logprobs"];
        }
        size_t n_whole = 0;
        for (size_t i = 0; i < l["tokens"].size(); ++i) {
            const std::string token = l["tokens"][i];
            if (token.find("\uFFFD") != std::string::npos) continue;  // part of a character
            ++n_whole;
            const auto at = l["text_offset"][i].get<size_t>();
            ASSERT_LE(at, text.size());
            const bool ascii = static_cast<unsigned char>(token[0]) < 0x80;
            if (ascii) {
                EXPECT_EQ(text[at], static_cast<char32_t>(token[0])) << token << " at " << at;
            }
        }
        EXPECT_GT(n_whole, 4u);
        EXPECT_LT(l["text_offset"].back().get<size_t>(), text.size());
    }
}

TEST_F(RequestsTest, OlderFunctionsAreAnsweredInTheirForm) {
    const Json functions = parse_json(
        R"([{"name": "get_weather", "description": "Current weather of a city",
             "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}])",
        "functions");
    const Json body = {
        {"messages", Json::array({{{"role", "user"}, {"content", "What is the weather in Paris?"}}})},
        {"functions", functions},
        {"max_tokens", 100}};
    const Json choice = chat(body)["choices"][0];
    EXPECT_EQ(choice["finish_reason"], "function_call");
    EXPECT_EQ(choice["message"]["function_call"]["name"], "get_weather") << choice;
    EXPECT_FALSE(choice["message"].contains("tool_calls"));
    Json none = body;
    none["function_call"] = "none";
    EXPECT_EQ(chat(none)["choices"][0]["finish_reason"].get<std::string>().find("function"),
              std::string::npos);
    Json wrong = body;
    wrong["function_call"] = {{"name", "nix"}};
    EXPECT_EQ(chat(wrong, 400)["error"]["param"], "function_call");
    Json both = body;
    both["tools"] = Json::array({{{"type", "function"}, {"function", functions[0]}}});
    EXPECT_EQ(chat(both, 400)["error"]["param"], "functions");
}

TEST_F(RequestsTest, SlashesAtTheEndOfABaseAddressDoNoHarm) {
    for (const char* path : {"//v1/models", "/v1//models", "/v1/models/", "/v1/models//", "///v1/models"}) {
        EXPECT_EQ(get(path).status, 200) << path;
    }
    EXPECT_EQ(get("/").status, 200);
    EXPECT_EQ(get("//").status, 200);
    EXPECT_EQ(get("/v1/models/nix/").status, 404);
}

TEST_F(RequestsTest, ModelsSayHowMuchTheyTakeAndAnswersHowMuchTheyThought) {
    const Json model = get("/v1/models/demo-23m").json();
    EXPECT_EQ(model["context_length"], get("/models").json()["models"][1]["context"]) << model;
    EXPECT_EQ(get("/v1/models").json()["data"][0]["context_length"],
              get("/models").json()["models"][0]["context"]);
    const Json thinks = chat({{"enable_thinking", true}, {"max_tokens", 200}});
    const Json& usage = thinks["usage"];
    const int n = usage["completion_tokens_details"]["reasoning_tokens"];
    if (thinks["choices"][0]["message"].contains("reasoning_content")) {
        EXPECT_GT(n, 0);
        EXPECT_LT(n, usage["completion_tokens"].get<int>());
    } else {
        EXPECT_EQ(n, 0);
    }
    EXPECT_EQ(chat({{"enable_thinking", false}})["usage"]["completion_tokens_details"]["reasoning_tokens"],
              0);
}

// The requests that people paste, as they are.
TEST(PastedRequests, AreAnswered) {
    TestServerOptions options;
    options.models = {};
    options.specs = {{.name = "qwen3-metal", .path = bundled("demo-23m")},
                     {.name = "qwen3-7b", .path = bundled("demo-23m"), .best = true},
                     {.name = "qwen3-3b", .path = bundled("demo-5m"), .fast = true}};
    TestServer server(options);
    const auto ask = [&](const char* path, const char* body) {
        const Reply r = Client(server.port()).ask("POST", path, body);
        EXPECT_EQ(r.status, 200) << body << r.body;
        return r.json();
    };
    const Json chat = ask("/v1/chat/completions", R"({
    "model": "qwen3-metal",
    "messages": [{"role": "user", "content": "Who is Clinton?"}],
    "max_tokens": 200,
    "temperature": 0.7
  })");
    EXPECT_TRUE(chat["choices"][0]["message"].contains("content"));
    EXPECT_EQ(ask("/v1/chat/completions", R"({
  "model": "qwen3-metal",
  "messages": [
    {"role": "user", "content": "Explain quantum computing"}
  ],
  "temperature": 0.7,
  "top_p": 0.9,
  "max_tokens": 150,
  "stream": false
})")["model"],
              "qwen3-metal");
    for (const char* model : {"qwen3-3b", "qwen3-7b"}) {
        const std::string body = fmt::format(
            R"({{"model": "{}", "prompt": "Hello", "max_tokens": 100, "temperature": 0.7, "priority": "speed"}})",
            model);
        EXPECT_EQ(ask("/generate", body.c_str())["model"], model);
    }
    EXPECT_EQ(Client(server.port()).ask("GET", "/health").status, 200);
}

TEST_F(RequestsTest, OllamasClientsGetItsErrorsAndItsRanges) {
    const Reply nowhere = post("/api/nothing", Json::object());
    EXPECT_EQ(nowhere.status, 404);
    EXPECT_TRUE(nowhere.json()["error"].is_string()) << nowhere.body;
    EXPECT_TRUE(get("/v1/nothing").json()["error"].is_object());
    const auto ask = [&](const Json& options, const Json& more = Json::object()) {
        Json body = {{"prompt", "a"}, {"stream", false}, {"options", options}};
        body.update(more);
        return post("/api/generate", body).status;
    };
    EXPECT_EQ(ask({{"temperature", 5}, {"num_predict", 1}}), 200);
    EXPECT_EQ(ask({{"temperature", 101}}), 400);
    EXPECT_EQ(ask({{"repeat_last_n", 64}, {"repeat_penalty", 1.1}, {"num_predict", 1}}), 200);
    EXPECT_EQ(ask({{"repeat_last_n", -2}}), 400);
    for (const Json& word : {Json("5m"), Json("-1"), Json(0), Json(-1), Json("forever"), Json(true)}) {
        EXPECT_EQ(ask({{"num_predict", 1}}, {{"keep_alive", word}}), 200) << word;
    }
    EXPECT_EQ(chat({{"temperature", 2.5}}, 400)["error"]["param"], "temperature") << "OpenAI's range";
}

}  // namespace
}  // namespace smelt
