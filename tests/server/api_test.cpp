// What clients rely on: bodies, events and errors of every route.
#include "server/api_fixture.h"

namespace smelt {
namespace {

TEST_F(ApiTest, ChatAnswersWithThinkingApart) {
    const Reply r =
        post("/v1/chat/completions", {{"model", "demo-23m"}, {"messages", question}, {"temperature", 0}});
    ASSERT_EQ(r.status, 200) << r.body;
    const Json body = r.json();
    EXPECT_EQ(body["object"], "chat.completion");
    EXPECT_EQ(body["model"], "demo-23m");
    const Json& choice = body["choices"][0];
    EXPECT_EQ(choice["message"]["content"], "12 + 30 = 42");
    EXPECT_EQ(choice["message"]["reasoning_content"], "12 + 30 equals 42.");
    EXPECT_EQ(choice["finish_reason"], "stop");
    EXPECT_EQ(body["usage"]["total_tokens"],
              body["usage"]["prompt_tokens"].get<int>() + body["usage"]["completion_tokens"].get<int>());
    EXPECT_TRUE(r.header("x-request-id").starts_with("req_"));
}

TEST_F(ApiTest, ThinkingCanBeTurnedOff) {
    for (const Json& how :
         {Json{{"chat_template_kwargs", {{"enable_thinking", false}}}}, Json{{"reasoning_effort", "none"}}}) {
        Json request = {{"model", "demo-23m"}, {"messages", question}, {"temperature", 0}};
        request.update(how);
        const Json message = post("/v1/chat/completions", request).json()["choices"][0]["message"];
        EXPECT_EQ(message["content"], "12 + 30 = 42");
        EXPECT_FALSE(message.contains("reasoning_content"));
    }
}

TEST_F(ApiTest, StreamedChatGivesTheSameTextAndUsage) {
    Json request = {{"model", "demo-23m"}, {"messages", question}, {"temperature", 0}};
    const Json whole = post("/v1/chat/completions", request).json();
    request["stream"] = true;
    request["stream_options"] = {{"include_usage", true}};
    const Reply r = post("/v1/chat/completions", request);
    EXPECT_EQ(r.header("content-type"), "text/event-stream; charset=utf-8");
    const std::vector<Json> all = events(r.body);
    ASSERT_GT(all.size(), 4u);
    EXPECT_EQ(all.back(), "[DONE]");
    std::string content, thinking;
    int n_finished = 0;
    for (size_t i = 0; i + 1 < all.size(); ++i) {
        const Json& e = all[i];
        EXPECT_EQ(e["id"], all[0]["id"]);
        if (e["choices"].empty()) continue;
        const Json& delta = e["choices"][0]["delta"];
        content += delta.value("content", "");
        thinking += delta.value("reasoning_content", "");
        n_finished += !e["choices"][0]["finish_reason"].is_null();
    }
    EXPECT_EQ(content, whole["choices"][0]["message"]["content"]);
    EXPECT_EQ(thinking, whole["choices"][0]["message"]["reasoning_content"]);
    EXPECT_EQ(n_finished, 1);
    EXPECT_EQ(all[all.size() - 2]["usage"]["completion_tokens"], whole["usage"]["completion_tokens"]);
}

TEST_F(ApiTest, SameSeedSameAnswersAndNAnswersDiffer) {
    const Json request = {{"model", "demo-5m"}, {"prompt", "The"},  {"n", 3},
                          {"seed", 7},          {"max_tokens", 12}, {"temperature", 1}};
    const Json a = post("/v1/completions", request).json(), b = post("/v1/completions", request).json();
    ASSERT_EQ(a["choices"].size(), 3u);
    EXPECT_EQ(a["choices"], b["choices"]);
    EXPECT_NE(a["choices"][0]["text"], a["choices"][1]["text"]);
}

TEST_F(ApiTest, StopStringsEndTheAnswerBeforeThem) {
    const Json r = post("/v1/chat/completions",
                        {{"model", "demo-23m"}, {"messages", question}, {"temperature", 0}, {"stop", " ="}})
                       .json();
    EXPECT_EQ(r["choices"][0]["message"]["content"], "12 + 30");
    EXPECT_EQ(r["choices"][0]["finish_reason"], "stop");
}

TEST_F(ApiTest, CompletionsTakeTokenIdsEchoAndNoTokens) {
    const Json ids =
        post("/tokenize", {{"model", "demo-5m"}, {"content", "The capital of"}}).json()["tokens"];
    const Json text = {
        {"model", "demo-5m"}, {"prompt", "The capital of"}, {"max_tokens", 6}, {"temperature", 0}};
    Json by_id = text;
    by_id["prompt"] = ids;
    const Json a = post("/v1/completions", text).json(), b = post("/v1/completions", by_id).json();
    EXPECT_EQ(a["choices"][0]["text"], b["choices"][0]["text"]);
    const Json none =
        post("/v1/completions", {{"model", "demo-5m"}, {"prompt", ids}, {"max_tokens", 0}, {"echo", true}})
            .json();
    EXPECT_EQ(none["choices"][0]["text"], "The capital of");
    EXPECT_EQ(none["usage"]["completion_tokens"], 0);
}

TEST_F(ApiTest, LogprobsOfTheLikeliestTokenAreTheDrawnOnes) {
    const Json r = post("/v1/chat/completions", {{"model", "demo-5m"},
                                                 {"messages", question},
                                                 {"temperature", 0},
                                                 {"max_tokens", 4},
                                                 {"logprobs", true},
                                                 {"top_logprobs", 2}})
                       .json();
    const Json& content = r["choices"][0]["logprobs"]["content"];
    ASSERT_EQ(content.size(), 4u);
    for (const Json& t : content) {
        EXPECT_LE(t["logprob"].get<double>(), 0);
        ASSERT_EQ(t["top_logprobs"].size(), 2u);
        EXPECT_EQ(t["token"], t["top_logprobs"][0]["token"]);
    }
}

// As evaluation harnesses score a text: nothing is generated, every token of the prompt is judged.
TEST_F(ApiTest, EchoWithLogprobsScoresThePrompt) {
    const Json ids =
        post("/tokenize", {{"model", "demo-23m"}, {"content", "What is 12 + 30?"}}).json()["tokens"];
    Json request = {{"model", "demo-23m"}, {"prompt", ids}, {"max_tokens", 0},
                    {"echo", true},        {"logprobs", 5}, {"temperature", 0}};
    const Json choice = post("/v1/completions", request).json()["choices"][0];
    EXPECT_EQ(choice["text"], "What is 12 + 30?");
    EXPECT_EQ(choice["finish_reason"], "length");
    const Json& lp = choice["logprobs"];
    for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
        ASSERT_EQ(lp[list].size(), ids.size()) << list;
    }
    EXPECT_TRUE(lp["token_logprobs"][0].is_null());
    EXPECT_TRUE(lp["top_logprobs"][0].is_null());
    // The same numbers as for the same tokens when they are drawn: after each beginning of the prompt.
    int n_compared = 0;
    for (size_t n = 1; n < ids.size(); ++n) {
        const std::string token = lp["tokens"][n];
        EXPECT_EQ(lp["top_logprobs"][n][token], lp["token_logprobs"][n]);
        const Json beginning(std::vector<Json>(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n)));
        const Json drawn = post("/v1/completions", {{"model", "demo-23m"},
                                                    {"prompt", beginning},
                                                    {"max_tokens", 1},
                                                    {"logprobs", 5},
                                                    {"temperature", 0},
                                                    {"ignore_eos", true}})
                               .json()["choices"][0]["logprobs"]["top_logprobs"][0];
        if (!drawn.contains(token)) continue;
        EXPECT_EQ(drawn[token], lp["token_logprobs"][n]);
        ++n_compared;
    }
    EXPECT_GE(n_compared, 2);

    // With an answer behind it: one list, whole or in pieces, and offsets that go on.
    request["max_tokens"] = 4;
    request["ignore_eos"] = true;
    const Json whole = post("/v1/completions", request).json()["choices"][0];
    request["stream"] = true;
    Json streamed = {{"text", ""}};
    for (const char* list : {"tokens", "token_logprobs", "top_logprobs", "text_offset"}) {
        streamed["logprobs"][list] = Json::array();
    }
    for (const Json& e : events(post("/v1/completions", request).body)) {
        if (!e.is_object()) continue;
        streamed["text"] = streamed["text"].get<std::string>() + e["choices"][0]["text"].get<std::string>();
        const Json& l = e["choices"][0]["logprobs"];
        if (l.is_null()) continue;
        for (const auto& [list, values] : l.items()) {
            for (const Json& v : values) streamed["logprobs"][list].push_back(v);
        }
    }
    EXPECT_EQ(whole["logprobs"]["tokens"].size(), ids.size() + 4);
    EXPECT_EQ(streamed["text"], whole["text"]);
    EXPECT_EQ(streamed["logprobs"], whole["logprobs"]);
    std::string text;
    for (size_t i = 0; i < whole["logprobs"]["tokens"].size(); ++i) {
        EXPECT_EQ(whole["logprobs"]["text_offset"][i], text.size());
        text += whole["logprobs"]["tokens"][i].get<std::string>();
    }
}

// The client hears at once that one of its answers met a stop string, while the other goes on.
TEST_F(ApiTest, AnAnswerThatStopsIsReportedBeforeTheOthersEnd) {
    Json request = {{"model", "demo-5m"}, {"prompt", "The"},   {"n", 2}, {"seed", 7}, {"max_tokens", 200},
                    {"temperature", 1},   {"ignore_eos", true}};
    const Json both = post("/v1/completions", request).json()["choices"];
    const std::string a = both[0]["text"], b = both[1]["text"];
    std::string stop;
    for (size_t at = 10; at + 4 < a.size() && stop.empty(); ++at) {
        if (b.find(a.substr(at, 4)) == std::string::npos) stop = a.substr(at, 4);
    }
    ASSERT_FALSE(stop.empty());
    request["stop"] = stop;
    request["stream"] = true;
    size_t stopped_at = 0, last_text_at = 0, i = 0;
    for (const Json& e : events(post("/v1/completions", request).body)) {
        ++i;
        if (!e.is_object()) continue;
        const Json& c = e["choices"][0];
        if (c["index"] == 0 && c["finish_reason"] == "stop") stopped_at = i;
        if (c["index"] == 1 && c["text"] != "") last_text_at = i;
    }
    EXPECT_GT(stopped_at, 0u);
    EXPECT_GT(last_text_at, stopped_at);
}

TEST_F(ApiTest, SaltsKeepCachedPrefixesApart) {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "salted " + std::to_string(i) + " ";
    const auto n_cached = [&](const char* salt) {
        return post("/v1/completions",
                    {{"model", "demo-5m"}, {"prompt", text}, {"max_tokens", 1}, {"cache_salt", salt}})
            .json()["usage"]["prompt_tokens_details"]["cached_tokens"]
            .get<int>();
    };
    for (const char* salt : {"", "a", "b"}) {
        EXPECT_EQ(n_cached(salt), 0) << salt;
        EXPECT_GT(n_cached(salt), 32) << salt;
    }
}

TEST_F(ApiTest, RepeatedPromptsAreFoundInTheCache) {
    std::string text;
    for (int i = 0; i < 60; ++i) text += "number " + std::to_string(i) + " ";
    const Json request = {{"model", "demo-5m"}, {"prompt", text}, {"max_tokens", 1}, {"temperature", 0}};
    const Json a = post("/v1/completions", request).json(), b = post("/v1/completions", request).json();
    EXPECT_GT(b["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>(), 32);
    EXPECT_EQ(a["choices"][0]["text"], b["choices"][0]["text"]);
}

TEST_F(ApiTest, AutoChoosesByWhatWasMeasured) {
    const auto model_for = [&](const Json& more) {
        Json request = {{"prompt", "Hi"}, {"max_tokens", 2}};
        request.update(more);
        return post("/generate", request).json()["model"];
    };
    EXPECT_EQ(model_for({{"priority", "quality"}}), "demo-23m");
    EXPECT_EQ(model_for({{"priority", "speed"}}), "demo-5m");
    EXPECT_EQ(model_for({{"model", "demo-23m"}, {"priority", "speed"}}), "demo-23m");
    EXPECT_EQ(model_for({{"max_tokens", 300}, {"model", "auto"}}), "demo-5m");
}

TEST_F(ApiTest, GenerateStreamsEvents) {
    const std::vector<Json> all = events(
        post("/generate",
             {{"model", "demo-23m"}, {"prompt", "What is 12 + 30?"}, {"temperature", 0}, {"stream", true}})
            .body);
    ASSERT_GT(all.size(), 3u);
    EXPECT_EQ(all.front()["type"], "start");
    EXPECT_EQ(all.back(), "[DONE]");
    EXPECT_EQ(all[all.size() - 2]["type"], "end");
    std::string text;
    for (const Json& e : all) {
        if (e.is_object() && e["type"] == "token") text += e["text"].get<std::string>();
    }
    EXPECT_EQ(text, "12 + 30 = 42");
}

TEST_F(ApiTest, ModelsAreListed) {
    const Json list = get("/v1/models").json();
    ASSERT_EQ(list["data"].size(), 2u);
    EXPECT_EQ(get("/v1/models/demo-5m").json()["id"], "demo-5m");
    const Reply none = get("/v1/models/gpt-9");
    EXPECT_EQ(none.status, 404);
    EXPECT_EQ(none.code(), "model_not_found");
    EXPECT_NE(none.body.find("demo-23m"), std::string::npos);
    EXPECT_EQ(post("/v1/chat/completions", {{"model", "gpt-9"}, {"messages", question}}).status, 404);
    EXPECT_GT(get("/models").json()["models"][0]["weight_bytes"].get<int64_t>(), 0);
}

TEST_F(ApiTest, TokensAndTemplatesRoundTrip) {
    const Json t = post("/tokenize", {{"content", "Grüße, 世界"}}).json();
    EXPECT_EQ(post("/detokenize", {{"tokens", t["tokens"]}}).json()["content"], "Grüße, 世界");
    EXPECT_EQ(post("/apply-template", {{"messages", question}}).json()["prompt"],
              "<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n");
    EXPECT_EQ(post("/detokenize", {{"tokens", {1, 99999999}}}).param(), "tokens");
}

TEST_F(ApiTest, MetricsAndPerformanceCountTheSame) {
    post("/v1/completions", {{"model", "demo-5m"}, {"prompt", "a"}, {"max_tokens", 3}});
    ASSERT_TRUE(server_->becomes_idle());
    const Json p = get("/performance").json();
    const std::string metrics = get("/metrics").body;
    for (const Json& m : p["models"]) {
        const std::string line =
            fmt::format("smelt_requests_completed_total{{model_name=\"{}\"}} {}\n",
                        m["name"].get<std::string>(), m["requests"]["completed"].get<int>());
        EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
    }
    EXPECT_EQ(p["internal_errors"], 0);
    // Each family has its HELP and TYPE before its values.
    size_t n_help = 0, n_type = 0;
    for (size_t at = 0; (at = metrics.find("# HELP ", at)) != std::string::npos; ++at) ++n_help;
    for (size_t at = 0; (at = metrics.find("# TYPE ", at)) != std::string::npos; ++at) ++n_type;
    EXPECT_EQ(n_help, n_type);
    EXPECT_GT(n_help, 15u);
}

TEST_F(ApiTest, HealthSaysWhatRuns) {
    const Json h = get("/health").json();
    EXPECT_EQ(h["status"], "ok");
    EXPECT_EQ(h["models"].size(), 2u);
    EXPECT_NE(h["models"][0]["device_description"], "");
}

// The page and the document come from the tables: nothing is missing, and the examples work.
TEST_F(ApiTest, DocumentationCoversEveryRouteAndItsExamplesWork) {
    const std::string page = get("/").body;
    const Json document = get("/openapi.json").json();
    for (const Route& route : routes()) {
        EXPECT_NE(page.find(route.path), std::string::npos) << route.path;
        EXPECT_TRUE(document["paths"].contains(route.path)) << route.path;
        if (route.body == nullptr || route.access == Access::admin) continue;
        const Reply r = post(asked_path(route.path), Json::parse(route.body->example));
        // The bundled models have no marks for a gap in a text.
        EXPECT_EQ(r.status, route.path == std::string("/infill") ? 501 : 200) << route.path << " " << r.body;
    }
}

bool takes(const Field& f, const Json& value) {
    try {
        f.compound->check(std::string(f.name), value);
        return true;
    } catch (const RequestError&) {
        return false;
    }
}

// What its reader checks, rather than the schema.
bool is_read_apart(const Field& f) {
    return f.type == FieldType::compound && f.compound->check == nullptr;
}

// Wrong type, null where it must not be, one below the least, one above the most: for every field of every
// body.
TEST_F(ApiTest, EveryFieldIsCheckedByTheSchema) {
    int n_checked = 0;
    for (const Route& route : routes()) {
        if (route.body == nullptr || route.access == Access::admin) continue;
        Client client(server_->port());
        const Json good = Json::parse(route.body->example);
        const auto expect_refused = [&](const Field& f, const Json& value) {
            Json body = good;
            body[std::string(f.name)] = value;
            const Reply r = client.ask("POST", asked_path(route.path), to_string(body));
            if (is_read_apart(f) && r.status == 200) return;  // it was a value of another kind
            EXPECT_EQ(r.status, 400) << route.path << " " << to_string(body) << " " << r.body;
            if (r.status == 400) {
                const Json error = r.json()["error"];
                const Json& names = error.is_string() ? error : error["param"];  // the message begins with it
                EXPECT_TRUE(names.get<std::string>().starts_with(f.name)) << to_string(body) << r.body;
            }
            ++n_checked;
        };
        for (const Field& f : route.body->fields) {
            for (const Json& wrong :
                 {Json("x"), Json(true), Json(1.5), Json::parse("{\"a\":[]}"), Json::parse("[{}]")}) {
                const bool fits = (f.type == FieldType::boolean && wrong.is_boolean()) ||
                                  (f.type == FieldType::number && wrong.is_number()) ||
                                  ((f.type == FieldType::string || f.type == FieldType::prompt ||
                                    f.type == FieldType::texts || f.type == FieldType::stop) &&
                                   wrong.is_string() && f.choices.empty() && f.name != "model") ||
                                  (f.type == FieldType::compound && !is_read_apart(f) && takes(f, wrong)) ||
                                  (f.type == FieldType::template_kwargs && wrong.is_object()) ||
                                  (f.type == FieldType::stream_options && wrong.is_object()) ||
                                  (f.name == "model" && wrong.is_string());
                if (!fits) expect_refused(f, wrong);
            }
            if (f.required) expect_refused(f, nullptr);
            if (f.type == FieldType::number) {
                expect_refused(f, f.low - 1);
                expect_refused(f, f.high + 1);
            }
            if (f.type != FieldType::integer) continue;
            if (f.min > std::numeric_limits<int64_t>::min()) expect_refused(f, f.min - 1);
            if (f.or_minus_one) expect_refused(f, -2);
            if (f.max < std::numeric_limits<int64_t>::max()) expect_refused(f, f.max + 1);
        }
    }
    EXPECT_GT(n_checked, 200);
}

}  // namespace
}  // namespace smelt
