// llama.cpp's own interface, as its server's tests ask for it; rerank, names of models, the access log.
#include <mutex>
#include <set>

#include "server/api_fixture.h"
#include "server/model_copy.h"

namespace smelt {
namespace {

class LlamaCppTest : public ApiTest {
 protected:
    static Json base(const Json& more) {
        Json body = {{"model", "demo-23m"},
                     {"prompt", "The capital of France is"},
                     {"n_predict", 8},
                     {"ignore_eos", true},
                     {"temperature", 0}};
        if (more.is_object()) body.update(more);
        return body;
    }
    Json ask(const Json& more = Json::object()) {
        const Reply r = post("/completion", base(more));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    }
    Json refused(const Json& more, int status = 400) {
        const Reply r = post("/completion", base(more));
        EXPECT_EQ(r.status, status) << more << r.body;
        return r.json()["error"];
    }
};

TEST_F(LlamaCppTest, AnswersHaveItsFields) {
    const Json a = ask();
    EXPECT_EQ(a["timings"]["predicted_n"], 8);
    EXPECT_EQ(a["tokens_predicted"], 8);
    EXPECT_GT(a["tokens_evaluated"], 3);
    EXPECT_EQ(a["stop"], true);
    EXPECT_EQ(a["stop_type"], "limit");
    EXPECT_EQ(a["truncated"], false);
    EXPECT_TRUE(a["has_new_line"].is_boolean());
    EXPECT_EQ(a["tokens"], Json::array());
    EXPECT_EQ(a["prompt"], "The capital of France is");
    EXPECT_EQ(a["generation_settings"]["n_predict"], 8);
    EXPECT_EQ(a["generation_settings"]["temperature"], 0.0);
    EXPECT_GT(a["timings"]["predicted_per_token_ms"], 0.0);
    EXPECT_EQ(ask({{"return_tokens", true}})["tokens"].size(), 8u);
    EXPECT_EQ(ask({{"seed", 7}})["generation_settings"]["seed"], 7);
    // The same text as from the other dialect.
    const Json other = post("/v1/completions", {{"model", "demo-23m"},
                                                {"prompt", "The capital of France is"},
                                                {"max_tokens", 8},
                                                {"ignore_eos", true},
                                                {"temperature", 0}})
                           .json();
    EXPECT_EQ(a["content"], other["choices"][0]["text"]);
    EXPECT_EQ(post("/completions", base({})).json()["content"], a["content"]);
}

TEST_F(LlamaCppTest, StreamsItsEvents) {
    const Json whole = ask({{"return_tokens", true}});
    const Reply r = post("/completion", base({{"stream", true}, {"timings_per_token", true}}));
    const std::vector<Json> all = events(r.body);
    std::string text;
    Json tokens = Json::array();
    for (size_t i = 0; i + 1 < all.size(); ++i) {
        EXPECT_EQ(all[i]["stop"], false);
        EXPECT_TRUE(all[i].contains("timings"));
        text += all[i]["content"].get<std::string>();
        for (const Json& t : all[i]["tokens"]) tokens.push_back(t);
    }
    EXPECT_EQ(text, whole["content"]);
    EXPECT_EQ(tokens, whole["tokens"]);
    EXPECT_EQ(all.back()["stop"], true);
    EXPECT_EQ(all.back()["content"], "");
    EXPECT_EQ(all.back()["stop_type"], "limit");
    EXPECT_TRUE(all.back().contains("generation_settings"));
    EXPECT_EQ(r.body.find("[DONE]"), std::string::npos);
}

TEST_F(LlamaCppTest, PromptsOfTextsTokensAndBoth) {
    const Json ids =
        post("/tokenize",
             {{"model", "demo-23m"}, {"content", "The capital of France is"}, {"add_special", true}})
            .json()["tokens"];
    const Json text = ask(), tokens = ask({{"prompt", ids}});
    EXPECT_EQ(tokens["content"], text["content"]);
    const Json several = ask({{"prompt", {ids, "The capital of France is"}}});
    ASSERT_EQ(several.size(), 2u);
    EXPECT_EQ(several[0]["content"], text["content"]);
    EXPECT_EQ(several[1]["content"], text["content"]);
    EXPECT_EQ(several[1]["index"], 1);
    EXPECT_TRUE(ask({{"prompt", {1, 2, "text", 3, "more"}}})["content"].is_string());
    EXPECT_EQ(ask({{"prompt", {"one", "two"}}}).size(), 2u) << "texts alone are several prompts";
    EXPECT_EQ(refused({{"prompt", {{{"a", 1}}}}})["param"], "prompt[0].prompt_string");
    const Json object = {{"prompt_string", "The capital of France is"}};
    EXPECT_EQ(ask({{"prompt", object}})["content"], text["content"]);
    EXPECT_EQ(ask({{"prompt", Json::array({ids, object})}})[1]["content"], text["content"]);
    Json picture = object;
    picture["multimodal_data"] = {"iVBORw0KGgo="};
    EXPECT_EQ(refused({{"prompt", picture}})["param"], "prompt.multimodal_data");
    EXPECT_EQ(refused({{"prompt", {100000000}}})["type"], "invalid_request_error");
}

TEST_F(LlamaCppTest, AStreamTellsHowFarThePromptIs) {
    std::string words;
    for (int i = 0; i < 150; ++i) words += fmt::format("word {} ", i);
    const Json messages = {{{"role", "user"}, {"content", words}}};
    const Json more = {{"model", "demo-5m"}, {"stream", true}, {"return_progress", true}};
    const auto check = [&](const char* path, Json body) {
        body.update(more);
        Json last;
        size_t n_before_text = 0;
        const Reply told = post(path, body);
        EXPECT_EQ(told.status, 200) << told.body;
        for (const Json& e : events(told.body)) {
            if (!e.contains("prompt_progress")) continue;
            const Json& p = e["prompt_progress"];
            if (last.is_null()) {
                EXPECT_EQ(p["processed"], p["cache"]) << path;
            } else {
                EXPECT_GT(p["processed"], last["processed"]) << path;
                EXPECT_EQ(p["total"], last["total"]) << path;
                EXPECT_GE(p["time_ms"], last["time_ms"]) << path;
            }
            last = p;
            ++n_before_text;
        }
        ASSERT_FALSE(last.is_null()) << path;
        EXPECT_EQ(last["processed"], last["total"]) << path;
        EXPECT_GE(n_before_text, 2u) << path;
        body["return_progress"] = false;
        EXPECT_EQ(post(path, body).body.find("prompt_progress"), std::string::npos) << path;
    };
    check("/completion", {{"prompt", words}, {"n_predict", 2}});
    check("/v1/completions", {{"prompt", words}, {"max_tokens", 2}});
    check("/v1/chat/completions", {{"messages", messages}, {"max_tokens", 2}});
    check("/v1/responses", {{"input", words}, {"max_output_tokens", 2}});
}

TEST_F(LlamaCppTest, TimingsOfEachEventAreTrueOnes) {
    const Json asked = {{"stream", true}, {"timings_per_token", true}, {"model", "demo-5m"}};
    const auto check = [&](const char* path, Json body) {
        body.update(asked);
        int n = 0;
        for (const Json& e : events(post(path, body).body)) {
            if (!e.contains("timings")) continue;
            const Json& t = e["timings"];
            EXPECT_GT(t["prompt_n"].get<int>() + t["cache_n"].get<int>(), 3) << path << t;
            EXPECT_GE(t["predicted_n"].get<int>(), n) << path << t;
            n = t["predicted_n"];
        }
        EXPECT_EQ(n, 6) << path;
    };
    const Json messages = question;
    check("/completion", base({{"n_predict", 6}}));
    check("/v1/completions",
          {{"prompt", "The capital of France is"}, {"max_tokens", 6}, {"ignore_eos", true}});
    check("/v1/chat/completions", {{"messages", messages}, {"max_tokens", 6}, {"ignore_eos", true}});
}

TEST_F(LlamaCppTest, BiasesAndTheEndOfTheContextAreSaid) {
    const Json a = ask({{"logit_bias", {{5, false}, {6, 1.5}}}, {"ignore_eos", false}});
    EXPECT_EQ(a["generation_settings"]["logit_bias"],
              Json::array({{{"token", 5}, {"bias", nullptr}}, {{"token", 6}, {"bias", 1.5}}}));
    const Json never = ask()["generation_settings"]["logit_bias"];
    ASSERT_FALSE(never.empty()) << "ends are never drawn";
    for (const Json& b : never) EXPECT_EQ(b["bias"], nullptr);
    EXPECT_EQ(ask({{"ignore_eos", false}})["generation_settings"]["logit_bias"], Json::array());
    std::string words;
    for (int i = 0; i < 490; ++i) words += "a b ";
    const Json full = ask({{"prompt", words}, {"n_predict", -1}});
    EXPECT_EQ(full["truncated"], true) << "the context is full";
    EXPECT_EQ(full["stop_type"], "limit");
}

TEST_F(LlamaCppTest, TokensOfAConversationAreCounted) {
    const Json chat = {{"model", "demo-23m"}, {"messages", question}};
    const Json counted = post("/chat/completions/input_tokens", chat).json();
    const Json answered =
        post("/v1/chat/completions", {{"model", "demo-23m"}, {"messages", question}, {"max_tokens", 1}})
            .json();
    EXPECT_EQ(counted["input_tokens"], answered["usage"]["prompt_tokens"]);
    EXPECT_EQ(post("/v1/chat/completions/input_tokens", chat).json(), counted);
    const Json input = {{"model", "demo-23m"}, {"input", question}};
    EXPECT_EQ(post("/v1/responses/input_tokens", input).json(), counted);
    EXPECT_EQ(counted["object"], "response.input_tokens");
    EXPECT_EQ(post("/v1/responses/input_tokens", {{"input", 5}}).status, 400);
    EXPECT_EQ(get("/v1/responses/input_tokens").status, 404) << "no answer has this id";
}

TEST_F(LlamaCppTest, WhatTheModelSawIsShownWhereAskedFor) {
    Json chat = {{"model", "demo-23m"}, {"messages", question}, {"max_tokens", 1}, {"verbose", true}};
    const std::string prompt = post("/v1/chat/completions", chat).json()["__verbose"]["prompt"];
    EXPECT_NE(prompt.find("<|im_start|>user"), std::string::npos) << prompt;
    chat["stream"] = true;
    EXPECT_NE(post("/v1/chat/completions", chat).body.find("__verbose"), std::string::npos);
    chat["verbose"] = false;
    EXPECT_EQ(post("/v1/chat/completions", chat).body.find("__verbose"), std::string::npos);
}

TEST_F(LlamaCppTest, ProbabilitiesAndFields) {
    const Json a = ask({{"n_probs", 10}, {"n_predict", 5}});
    ASSERT_EQ(a["completion_probabilities"].size(), 5u);
    for (const Json& t : a["completion_probabilities"]) {
        EXPECT_LE(t["logprob"], 0.0);
        EXPECT_TRUE(t["bytes"].is_array());
        ASSERT_EQ(t["top_logprobs"].size(), 10u);
        EXPECT_EQ(t["top_logprobs"][0]["id"], t["id"]) << "greedy";
        EXPECT_GE(t["top_logprobs"][0]["logprob"], t["top_logprobs"][1]["logprob"]);
    }
    const Json few = ask({{"response_fields", {"content", "generation_settings/n_predict", "nothing"}}});
    EXPECT_EQ(few.size(), 2u) << few;
    EXPECT_EQ(few["generation_settings/n_predict"], 8);
    EXPECT_EQ(ask({{"response_fields", Json::array()}}).contains("timings"), true);
    const Json stream = events(post("/completion", base({{"n_probs", 2}, {"stream", true}})).body)[0];
    EXPECT_EQ(stream["completion_probabilities"].size(), stream["tokens"].size());
}

TEST_F(LlamaCppTest, WhatItsRequestsSayActs) {
    const Json plain = ask();
    EXPECT_EQ(ask({{"stop", {" "}}})["stop_type"], "word");
    EXPECT_EQ(ask({{"stop", {" "}}})["stopping_word"], " ");
    ask();  // the prompt is in the cache now
    EXPECT_GT(ask()["timings"]["cache_n"].get<int>() + 1, 0);
    const Json uncached = ask({{"cache_prompt", false}});
    EXPECT_EQ(uncached["timings"]["cache_n"], 0);
    EXPECT_EQ(uncached["content"], plain["content"]);
    EXPECT_EQ(ask({{"id_slot", 3}})["id_slot"], 3);
    // Biases of texts, of ids, and in both forms; false: never.
    const Json first = ask({{"n_predict", 1}, {"return_tokens", true}})["tokens"][0];
    for (const Json& bias :
         {Json::array({{first, false}}), Json::array({{first, -1000}}), Json({{to_string(first), -1000}})}) {
        EXPECT_NE(ask({{"n_predict", 1}, {"return_tokens", true}, {"logit_bias", bias}})["tokens"][0], first)
            << bias;
    }
    EXPECT_EQ(ask({{"grammar", "root ::= \"yes\""}})["content"], "yes");
    EXPECT_EQ(ask({{"json_schema", {{"const", 42}}}})["content"], "42");
    EXPECT_NE(ask({{"repeat_penalty", 50}, {"n_predict", 24}})["content"],
              ask({{"n_predict", 24}})["content"]);
    // What cannot be done is refused by name; its neutral value is as good as nothing.
    for (const char* name : {"mirostat", "dynatemp_range", "n_indent", "t_max_predict_ms"}) {
        EXPECT_EQ(refused({{name, 2}})["param"], name);
        EXPECT_EQ(post("/completion", base({{name, 0}})).status, 200) << name;
    }
    EXPECT_EQ(refused({{"post_sampling_probs", true}})["param"], "post_sampling_probs");
    EXPECT_NE(to_string(ask({{"samplers", {"top_k"}}})["warnings"]).find("samplers"), std::string::npos);
    const Json full = refused({{"prompt", std::string(20000, 'x')}});
    EXPECT_EQ(full["type"], "exceed_context_size_error");
    EXPECT_GT(full["n_prompt_tokens"], full["n_ctx"]);
}

TEST_F(LlamaCppTest, PathsWithoutAVersion) {
    const Json chat = {{"model", "demo-23m"}, {"messages", question}, {"max_tokens", 4}, {"temperature", 0}};
    EXPECT_EQ(post("/chat/completions", chat).json()["choices"],
              post("/v1/chat/completions", chat).json()["choices"]);
    const Reply wrong = post("/chat/completions", {{"messages", "string"}});
    EXPECT_EQ(wrong.status, 400);
    EXPECT_EQ(wrong.json()["error"]["code"], 400) << "errors in its form";
    EXPECT_EQ(post("/embeddings", {{"model", "demo-5m"}, {"input", "x"}}).status, 200);
    EXPECT_EQ(get("/v1/health").status, 200);
    const Json models = get("/models").json();
    EXPECT_EQ(models["data"].size(), 2u);
    EXPECT_EQ(models["models"].size(), 2u);
    const Json props = get("/props").json();
    EXPECT_EQ(props["total_slots"], 32);
    EXPECT_NE(props["chat_template"], "");
    EXPECT_TRUE(props["default_generation_settings"]["params"].contains("temperature"));
    const Json slots = get("/slots").json();
    ASSERT_EQ(slots.size(), 32u);
    EXPECT_EQ(slots[0]["n_ctx"], props["default_generation_settings"]["n_ctx"]);
    EXPECT_EQ(slots[0]["is_processing"], false);
    EXPECT_EQ(get("/slots?fail_on_no_slot=1").status, 200);
}

TEST_F(LlamaCppTest, AGapNeedsAModelWithMarks) {
    const Reply r = post("/infill", {{"model", "demo-23m"}, {"input_prefix", "a"}, {"input_suffix", "b"}});
    EXPECT_EQ(r.status, 501) << r.body;
    EXPECT_EQ(r.json()["error"]["type"], "not_supported_error");
    EXPECT_EQ(post("/v1/completions", {{"model", "demo-23m"}, {"prompt", "a"}, {"suffix", "b"}}).status, 501);
    EXPECT_EQ(post("/v1/completions", {{"model", "demo-23m"}, {"prompt", "a"}, {"suffix", ""}}).status, 200);
    for (const Json& extra : {Json::object(), Json({{"filename", 1}, {"text", "a"}}), Json({{"text", 5}})}) {
        EXPECT_EQ(post("/infill", {{"input_prefix", "a"}, {"input_extra", Json::array({extra})}}).status, 400)
            << extra;
    }
}

// The bundled model with four of its marks renamed.
TEST(FillIn, PromptsAreMadeOfTheModelsMarks) {
    const ModelCopy copy("fill_in");
    std::string tokenizer = copy.read("tokenizer.json");
    const std::pair<const char*, const char*> marks[] = {{"<|object_ref_start|>", "<|fim_prefix|>"},
                                                         {"<|object_ref_end|>", "<|fim_suffix|>"},
                                                         {"</tool_response>", "<|fim_pad|>"},
                                                         {"<tool_response>", "<|fim_middle|>"}};
    for (const auto& [from, to] : marks) {
        const std::string old = from;
        for (size_t at = 0; (at = tokenizer.find(old, at)) != std::string::npos;)
            tokenizer.replace(at, old.size(), to);
    }
    // As Qwen has them: added tokens that are no control tokens.
    Json json = Json::parse(tokenizer);
    for (Json& added : json["added_tokens"]) {
        if (added["content"].get<std::string>().starts_with("<|fim_")) added["special"] = false;
    }
    copy.write("tokenizer.json", json.dump());
    TestServer server({.models = {}, .specs = {{.name = "fim", .path = copy.path()}}});
    Client client(server.port());
    const auto ask = [&](const char* path, const Json& body) {
        const Reply r = client.ask("POST", path, to_string(body));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    };
    const auto ids = [&](const std::string& text) { return ask("/tokenize", {{"content", text}})["tokens"]; };
    const auto goes_on = [&](const Json& prompt) {
        return ask("/completion",
                   {{"prompt", prompt}, {"n_predict", 6}, {"temperature", 0}, {"return_tokens", true}});
    };
    const Json meant = goes_on(ids("<|fim_prefix|>def f():<|fim_suffix|>return 1<|fim_middle|>  x"));
    const Json infill = ask("/infill", {{"input_prefix", "def f():"},
                                        {"input_suffix", "return 1"},
                                        {"prompt", "  x"},
                                        {"n_predict", 6},
                                        {"temperature", 0},
                                        {"return_tokens", true}});
    EXPECT_EQ(infill["content"], meant["content"]);
    EXPECT_EQ(infill["tokens_evaluated"], meant["tokens_evaluated"]);
    const Json middle = goes_on(ids("<|fim_prefix|>def f():<|fim_suffix|>return 1<|fim_middle|>"));
    const Json completion =
        ask("/v1/completions",
            {{"prompt", "def f():"}, {"suffix", "return 1"}, {"max_tokens", 6}, {"temperature", 0}});
    EXPECT_EQ(completion["choices"][0]["text"], middle["content"]);
    // A mark in somebody's text is text.
    const Json text =
        ask("/infill", {{"input_prefix", "<|fim_middle|>"}, {"input_suffix", "b"}, {"n_predict", 1}});
    EXPECT_GT(text["tokens_evaluated"].get<int>(), 3 + 1 + 1);
    const Json extra = ask("/infill", {{"input_prefix", "a"},
                                       {"input_suffix", "b"},
                                       {"input_extra", {{{"filename", "x.h"}, {"text", "int n();"}}}},
                                       {"n_predict", 1}});
    EXPECT_NE(extra["prompt"].get<std::string>().find("x.h\nint n();"), std::string::npos) << extra["prompt"];
}

TEST_F(LlamaCppTest, Rerank) {
    const Json documents = {"ripgrep is a tool to search for files.", "Paris is a city.", "x"};
    const Json body = {{"model", "demo-23m"}, {"query", "What is ripgrep?"}, {"documents", documents}};
    const Json r = post("/v1/rerank", body).json();
    ASSERT_EQ(r["results"].size(), 3u) << r;
    std::set<int> seen;
    for (size_t i = 0; i < 3; ++i) {
        const double score = r["results"][i]["relevance_score"];
        EXPECT_TRUE(score > 0 && score < 1) << r;
        if (i > 0) {
            EXPECT_LE(score, r["results"][i - 1]["relevance_score"].get<double>());
        }
        seen.insert(r["results"][i]["index"].get<int>());
    }
    EXPECT_EQ(seen.size(), 3u);
    EXPECT_EQ(r["usage"]["prompt_tokens"], r["usage"]["total_tokens"]);
    EXPECT_EQ(post("/rerank", body).json()["results"], r["results"]) << "the same each time";
    Json top = body;
    top["top_n"] = 2;
    top["return_documents"] = true;
    const Json best = post("/v1/rerank", top).json()["results"];
    ASSERT_EQ(best.size(), 2u);
    EXPECT_EQ(best[0]["document"]["text"], documents[best[0]["index"].get<size_t>()]);
    const Json tei = post("/rerank", {{"query", "q"}, {"texts", documents}, {"return_text", true}}).json();
    ASSERT_EQ(tei.size(), 3u);
    EXPECT_TRUE(tei[0].contains("score") && tei[0].contains("text"));
    // The score is what the model gives to yes against no: its own log-probabilities say the same.
    for (const Json& wrong : {Json(), Json::array(), Json(123), Json({1, 2})}) {
        EXPECT_EQ(post("/v1/rerank", {{"query", "q"}, {"documents", wrong}}).status, 400) << wrong;
    }
}

TEST(ModelNames, AliasesAndAnyName) {
    TestServer aliased(
        {.models = {},
         .specs = {{.name = "large", .aliases = {"gpt-4o", "claude-x"}, .path = bundled("demo-5m")}}});
    Client client(aliased.port());
    const auto ask = [](Client& c, const char* model) {
        return c.ask("POST", "/v1/chat/completions",
                     to_string(Json{{"model", model}, {"messages", question}, {"max_tokens", 1}}));
    };
    for (const char* name : {"large", "gpt-4o", "claude-x", "auto"}) {
        EXPECT_EQ(ask(client, name).json()["model"], "large") << name;
    }
    EXPECT_EQ(ask(client, "gpt-5").status, 404);
    const Json list = client.ask("GET", "/v1/models").json()["data"];
    ASSERT_EQ(list.size(), 3u);
    EXPECT_EQ(list[1]["id"], "gpt-4o");
    EXPECT_EQ(list[1]["root"], "large");
    EXPECT_EQ(client.ask("GET", "/v1/models/claude-x").json()["id"], "claude-x");

    TestServer open({.any_name = true});
    Client other(open.port());
    EXPECT_EQ(ask(other, "gpt-5").json()["model"], "demo-5m");
    EXPECT_EQ(ask(other, "demo-5m").json()["model"], "demo-5m");
}

TEST(AccessLog, ALineForEachRequest) {
    struct Log {
        std::mutex mutex;
        std::vector<Json> lines;
        std::vector<std::string> texts;
    } log;
    std::vector<Json> lines;
    {
        TestServer server({.access = {.api_keys = {"zebra"}}, .access_log = [&log](const AccessRecord& r) {
                               const std::lock_guard lock(log.mutex);
                               log.lines.push_back(r.json());
                               log.texts.push_back(r.text());
                           }});
        Client client(server.port());
        const std::string key = "Host: localhost\r\nAuthorization: Bearer zebra\r\n";
        const auto ask = [&](const Json& more) {
            Json body = {{"messages", question}, {"max_tokens", 3}, {"temperature", 0}, {"model", "demo-5m"}};
            if (more.is_object()) body.update(more);
            return client.ask("POST", "/v1/chat/completions", to_string(body), key).status;
        };
        EXPECT_EQ(ask({}), 200);
        EXPECT_EQ(ask({{"stream", true}, {"model", "auto"}}), 200);
        EXPECT_EQ(ask({{"model", "nothing"}}), 404);
        EXPECT_EQ(client.ask("GET", "/v1/models").status, 401);
        EXPECT_EQ(client.ask("GET", "/health").status, 200);
    }
    // A record ends when nobody holds it any more, so the order may differ.
    const auto find = [&](int status, const char* path, const char* why = nullptr) {
        for (const Json& line : log.lines) {
            if (line["status"] == status && line["path"] == path &&
                (why == nullptr || line.value("why", "") == why))
                return line;
        }
        ADD_FAILURE() << status << path;
        return Json::object();
    };
    EXPECT_EQ(log.lines.size(), 5u) << Json(log.lines);
    const Json named = find(200, "/v1/chat/completions", "asked for");
    EXPECT_EQ(named["model"], "demo-5m");
    EXPECT_EQ(named["completion_tokens"], 3);
    EXPECT_GT(named["prompt_tokens"], 5);
    EXPECT_EQ(named["finish_reason"], "length");
    EXPECT_GT(named["ms"], 0.0);
    EXPECT_TRUE(named["id"].is_string());
    EXPECT_EQ(find(200, "/v1/chat/completions", "the only one")["completion_tokens"], 3);
    find(404, "/v1/chat/completions");
    find(401, "/v1/models");
    find(200, "/health");
    for (const std::string& text : log.texts) {
        EXPECT_EQ(text.find("zebra"), std::string::npos) << text;
        EXPECT_EQ(text.find("12 + 30"), std::string::npos) << text;
    }
}

TEST(Metrics, MemoryQueueTimesAndTheBuild) {
    TestServer server;
    Client client(server.port());
    const Json answer =
        client.ask("POST", "/v1/chat/completions", to_string(Json{{"messages", question}, {"max_tokens", 3}}))
            .json();
    EXPECT_GT(answer["timings"]["resident_bytes"], 1e6);
    EXPECT_GT(answer["timings"]["process_cpu_ms"], 0.0);
    const std::string text = client.ask("GET", "/metrics").body;
    for (const char* name : {"process_resident_memory_bytes ", "smelt_request_queue_time_seconds_bucket{",
                             "smelt_request_queue_time_seconds_count{model_name=\"demo-5m\"} 1",
                             "smelt_build_info{version=\"test\",compiler="}) {
        EXPECT_NE(text.find(name), std::string::npos) << name;
    }
}

}  // namespace
}  // namespace smelt
