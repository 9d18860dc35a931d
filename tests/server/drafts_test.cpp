// Speculative decoding behind the server: the same answers, and counts that say what was drafted.
#include "server/api_fixture.h"
#include "server/model_copy.h"

namespace smelt {
namespace {

// Always as many drafts as can be, so that counts do not depend on the machine's speed.
const DraftOptions always{.lookup = true, .max = 4, .adaptive = false};

class DraftsTest : public ::testing::Test {
 protected:
    static void SetUpTestSuite() {
        drafting_ = new TestServer({.models = {"demo-23m"}, .drafts = always, .draft_model = "demo-5m"});
        plain_ = new TestServer({.models = {"demo-23m"}, .drafts = {.adaptive = false}});
    }
    static void TearDownTestSuite() {
        delete drafting_;
        delete plain_;
    }
    static Json post(TestServer& server, const std::string& path, const Json& body) {
        Client client(server.port());
        return client.ask("POST", path, to_string(body)).json();
    }
    static Json both(const std::string& path, const Json& body) {
        Json drafted = post(*drafting_, path, body);
        const Json plain = post(*plain_, path, body);
        const auto answers = [](const Json& r) {
            Json all = Json::array();
            for (const Json& c : r.at("choices")) {
                all.push_back({c.at("finish_reason"), c.contains("text") ? c["text"] : c["message"],
                               c.value("logprobs", Json())});
            }
            return all;
        };
        EXPECT_EQ(answers(drafted), answers(plain)) << body;
        EXPECT_EQ(drafted["usage"]["completion_tokens"], plain["usage"]["completion_tokens"]);
        EXPECT_FALSE(plain["timings"].contains("draft_n"));
        return drafted;
    }
    inline static TestServer *drafting_ = nullptr, *plain_ = nullptr;
};

TEST_F(DraftsTest, AnswersAreTheSameAndCounted) {
    const Json ask = {{"messages", {{{"role", "user"}, {"content", "Describe a morning in a harbour."}}}},
                      {"max_tokens", 40}};
    const auto with = [&](const Json& more) {
        Json body = ask;
        body.update(more);
        return body;
    };
    int64_t n_drafted = 0, n_accepted = 0;
    for (const Json& more :
         {Json{{"temperature", 0}}, Json{{"temperature", 1}, {"seed", 5}},
          Json{{"temperature", 0.8}, {"seed", 6}, {"frequency_penalty", 0.5}, {"repetition_penalty", 1.1}},
          Json{{"temperature", 0}, {"stop", {"the", "and"}}}, Json{{"temperature", 1}, {"seed", 2}, {"n", 3}},
          Json{{"temperature", 0}, {"logprobs", true}, {"top_logprobs", 3}},
          Json{{"temperature", 1}, {"seed", 8}, {"guided_regex", "([a-z]{1,9} ){6}end"}},
          Json{{"temperature", 0}, {"response_format", {{"type", "json_object"}}}},
          Json{{"temperature", 0}, {"min_tokens", 30}, {"logit_bias", {{"5", -50}}}}}) {
        const Json timings = both("/v1/chat/completions", with(more))["timings"];
        if (!timings.contains("draft_n")) continue;
        EXPECT_GE(timings["draft_n"], timings["draft_n_accepted"]);
        n_drafted += timings["draft_n"].get<int64_t>();
        n_accepted += timings["draft_n_accepted"].get<int64_t>();
    }
    EXPECT_GT(n_drafted, 100);
    EXPECT_GT(n_accepted, 20);
    const Json none = both("/v1/chat/completions", with({{"temperature", 0}, {"speculative.n_max", 0}}));
    EXPECT_FALSE(none["timings"].contains("draft_n"));

    Client client(drafting_->port());
    const std::string metrics = client.ask("GET", "/metrics").body;
    const auto count = [&](const std::string& name) {
        const size_t at = metrics.find("\n" + name + "{model_name=\"demo-23m\"} ");
        EXPECT_NE(at, std::string::npos) << name << metrics;
        return at == std::string::npos ? -1 : std::stoll(metrics.substr(metrics.find(' ', at) + 1));
    };
    EXPECT_GE(count("smelt_spec_decode_num_draft_tokens_total"), n_drafted);
    EXPECT_GE(count("smelt_spec_decode_num_accepted_tokens_total"), n_accepted);
    EXPECT_GT(count("smelt_spec_decode_num_drafts_total"), 10);
    const Json drafts = client.ask("GET", "/performance").json()["models"][0]["drafts"];
    EXPECT_GE(drafts["tokens"], n_drafted);
}

// A server that drafts nothing by itself takes what the client predicts.
TEST_F(DraftsTest, APredictionIsTaken) {
    Json ask = {{"messages", {{{"role", "user"}, {"content", "What is 12 + 30?"}}}}, {"temperature", 0}};
    const Json plain = post(*plain_, "/v1/chat/completions", ask);
    const std::string answer = plain["choices"][0]["message"]["content"];
    EXPECT_FALSE(plain["usage"]["completion_tokens_details"].contains("accepted_prediction_tokens"));
    for (const Json& content : {Json(answer), Json{{{"type", "text"}, {"text", answer}}}}) {
        ask["prediction"] = {{"type", "content"}, {"content", content}};
        const Json r = post(*plain_, "/v1/chat/completions", ask);
        EXPECT_EQ(r["choices"][0]["message"]["content"], answer);
        const Json& details = r["usage"]["completion_tokens_details"];
        EXPECT_GT(details["accepted_prediction_tokens"], 2);
        EXPECT_TRUE(details["rejected_prediction_tokens"].is_number());
    }
    const std::pair<Json, const char*> wrong[] = {
        {5, "prediction: expected an object"},
        {{{"type", "text"}, {"content", ""}}, "prediction.type: expected content"},
        {{{"type", "content"}}, "prediction.content"},
        {{{"type", "content"}, {"content", {{{"type", "image"}}}}}, "prediction.content[0].type"},
    };
    for (const auto& [prediction, text] : wrong) {
        ask["prediction"] = prediction;
        const Json r = post(*plain_, "/v1/chat/completions", ask);
        EXPECT_NE(r["error"]["message"].get<std::string>().find(text), std::string::npos) << r;
    }
}

// One token of another text, and nothing that the model writes would be understood.
TEST(DraftModel, AnotherVocabularyIsRefused) {
    const ModelCopy copy("other_vocabulary");
    Json tokenizer = Json::parse(copy.read("tokenizer.json"));
    Json& vocabulary = tokenizer["model"]["vocab"];
    std::swap(vocabulary["a"], vocabulary["b"]);
    std::filesystem::remove(copy.path() + "/tokenizer.json");
    copy.write("tokenizer.json", tokenizer.dump());
    try {
        ChatModel::open(bundled("demo-23m"), {.draft_model = copy.path()});
        FAIL() << "it was taken";
    } catch (const Error& e) {
        const std::string what = e.what();
        EXPECT_NE(what.find("expected the model's own vocabulary"), std::string::npos) << what;
    }
}

}  // namespace
}  // namespace smelt
