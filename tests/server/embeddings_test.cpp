// /v1/embeddings and Ollama's /api/embed.
#include <bit>
#include <cmath>

#include "server/api_fixture.h"

namespace smelt {
namespace {

class EmbeddingsTest : public ApiTest {
 protected:
    Json ask(const Json& more) {
        Json request = {{"model", "demo-23m"}};
        request.update(more);
        const Reply r = post("/v1/embeddings", request);
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    }
    static double length(const Json& vector) {
        double squares = 0;
        for (const Json& x : vector) squares += x.get<double>() * x.get<double>();
        return std::sqrt(squares);
    }
    static double cosine(const Json& a, const Json& b) {
        double sum = 0;
        for (size_t i = 0; i < a.size(); ++i) sum += a[i].get<double>() * b[i].get<double>();
        return sum;
    }
};

TEST_F(EmbeddingsTest, EachTextHasANormalisedVector) {
    const Json r = ask({{"input", {"a text editor", "an editor of text", "the wife of the king"}}});
    EXPECT_EQ(r["object"], "list");
    ASSERT_EQ(r["data"].size(), 3u);
    std::vector<Json> v;
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(r["data"][i]["index"], i);
        v.push_back(r["data"][i]["embedding"]);
        EXPECT_EQ(v[i].size(), 512u);
        EXPECT_NEAR(length(v[i]), 1, 1e-6);
    }
    EXPECT_GT(cosine(v[0], v[1]), cosine(v[0], v[2]));
    EXPECT_GT(r["usage"]["prompt_tokens"].get<int>(), 8);
    // The company changes nothing, nor does whether text or its tokens are given.
    EXPECT_EQ(ask({{"input", "an editor of text"}})["data"][0]["embedding"], v[1]);
    const Json ids =
        post("/tokenize", {{"model", "demo-23m"}, {"content", "an editor of text"}}).json()["tokens"];
    EXPECT_EQ(ask({{"input", ids}})["data"][0]["embedding"], v[1]);
    EXPECT_EQ(ask({{"input", Json::array({ids})}})["data"][0]["embedding"], v[1]);
    EXPECT_NE(ask({{"input", "an editor of text"}, {"pooling", "last"}})["data"][0]["embedding"], v[1]);
}

TEST_F(EmbeddingsTest, Base64HasTheSameFloats) {
    const Json floats = ask({{"input", "a"}, {"dimensions", 5}})["data"][0]["embedding"];
    const std::string text =
        ask({{"input", "a"}, {"dimensions", 5}, {"encoding_format", "base64"}})["data"][0]["embedding"];
    ASSERT_EQ(text.size(), 28u);  // 20 bytes
    constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    EXPECT_EQ(text.back(), '=');
    std::vector<uint8_t> bytes;
    for (size_t i = 0; i < text.size(); i += 4) {
        uint32_t word = 0;
        for (size_t j = 0; j < 4; ++j)
            word = word << 6 | (text[i + j] == '=' ? 0 : static_cast<uint32_t>(digits.find(text[i + j])));
        for (const int shift : {16, 8, 0}) bytes.push_back(static_cast<uint8_t>(word >> shift));
    }
    for (size_t i = 0; i < 5; ++i) {
        const uint32_t bits = bytes[4 * i] | bytes[4 * i + 1] << 8 | bytes[4 * i + 2] << 16 |
                              static_cast<uint32_t>(bytes[4 * i + 3]) << 24;
        EXPECT_EQ(std::bit_cast<float>(bits), floats[i].get<float>());
    }
}

TEST_F(EmbeddingsTest, DimensionsAreTheLeadingOnesNormalisedAgain) {
    const Json all = ask({{"input", "a text"}})["data"][0]["embedding"];
    const Json some = ask({{"input", "a text"}, {"dimensions", 64}})["data"][0]["embedding"];
    ASSERT_EQ(some.size(), 64u);
    EXPECT_NEAR(length(some), 1, 1e-6);
    for (size_t i = 1; i < 64; ++i) {
        EXPECT_NEAR(some[i].get<double>() * all[0].get<double>(),
                    some[0].get<double>() * all[i].get<double>(), 1e-6);
    }
}

TEST_F(EmbeddingsTest, OllamasWordsSayTheSame) {
    const Json r = post("/api/embed", {{"model", "demo-23m:latest"}, {"input", {"a text", "b"}}}).json();
    ASSERT_EQ(r["embeddings"].size(), 2u);
    EXPECT_EQ(r["embeddings"][0], ask({{"input", "a text"}})["data"][0]["embedding"]);
    EXPECT_EQ(post("/api/embed", {{"input", {1}}}).status, 400);
}

TEST_F(EmbeddingsTest, OllamasOlderRouteHasOneVector) {
    const Json r = post("/api/embeddings", {{"model", "demo-23m"}, {"prompt", "a text"}}).json();
    EXPECT_EQ(r["embedding"], ask({{"input", "a text"}})["data"][0]["embedding"]);
    EXPECT_EQ(post("/api/embeddings", {{"prompt", ""}}).json()["embedding"], Json::array());
    EXPECT_TRUE(post("/api/embeddings", {{"model", "nix"}, {"prompt", ""}}).json()["error"].is_string());
}

TEST_F(EmbeddingsTest, OllamaAnswersNothingWithNothing) {
    for (const Json& empty : {Json(""), Json::array()}) {
        const Reply r = post("/api/embed", {{"model", "demo-5m"}, {"input", empty}});
        EXPECT_EQ(r.status, 200) << r.body;
        EXPECT_EQ(r.json()["embeddings"], Json::array());
    }
    EXPECT_EQ(post("/api/embed", {{"model", "demo-5m"}}).json()["embeddings"], Json::array());
    EXPECT_EQ(post("/api/embed", {{"model", "none"}}).status, 404);
    EXPECT_EQ(post("/api/embeddings", {{"model", "demo-5m"}}).json()["embedding"], Json::array());
    EXPECT_EQ(post("/v1/embeddings", {{"input", Json::array()}}).param(), "input") << "OpenAI's refuses it";
}

// More texts than the queue has places, while others are answered.
TEST_F(EmbeddingsTest, TwoThousandTextsAreOneRequest) {
    std::vector<std::string> texts;
    for (int i = 0; i < 2048; ++i) texts.push_back(std::to_string(i % 50));
    Client many(server_->port());
    many.send(Client::request("POST", "/v1/embeddings", to_string({{"model", "demo-5m"}, {"input", texts}})));
    while (server_->model().outstanding == 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_LE(server_->model().outstanding, 16);
    EXPECT_EQ(post("/v1/completions", {{"model", "demo-5m"}, {"prompt", "a"}, {"max_tokens", 1}}).status,
              200);
    const Json r = many.read_reply(120).json();
    ASSERT_EQ(r["data"].size(), 2048u) << to_string(r).substr(0, 300);
    for (size_t i = 50; i < 2048; ++i) EXPECT_EQ(r["data"][i]["embedding"], r["data"][i % 50]["embedding"]);
    texts.push_back("one more");
    EXPECT_EQ(post("/v1/embeddings", {{"model", "demo-5m"}, {"input", texts}}).param(), "input");
    EXPECT_EQ(post("/api/embed", {{"model", "demo-5m"}, {"input", texts}}).status, 400);
}

TEST_F(EmbeddingsTest, WhatIsRefused) {
    std::string long_text;
    for (int i = 0; i < 1500; ++i) long_text += "word ";
    const std::tuple<Json, const char*, const char*> wrong[] = {
        {{{"input", "a"}, {"dimensions", 513}}, "dimensions", "invalid_value"},
        {{{"input", "a"}, {"dimensions", 0}}, "dimensions", "invalid_value"},
        {{{"input", {"a", long_text}}}, "input[1]", "context_length_exceeded"},
        {{{"input", {1, 99999999}}}, "input", "invalid_value"},
        {{{"input", "a"}, {"encoding_format", "int8"}}, "encoding_format", "invalid_value"},
    };
    for (const auto& [more, param, code] : wrong) {
        Json request = {{"model", "demo-23m"}};
        request.update(more);
        const Reply r = post("/v1/embeddings", request);
        EXPECT_EQ(r.status, 400);
        EXPECT_EQ(r.param(), param) << r.body;
        EXPECT_EQ(r.code(), code) << r.body;
    }
    EXPECT_TRUE(server_->becomes_idle());
}

// A queue that takes fewer than one request may have under way.
TEST(EmbeddingsQueue, WhatItDoesNotTakeNowComesLater) {
    TestServer server({.max_queue = 4, .max_seqs = 2});
    std::vector<std::string> texts;
    for (int i = 0; i < 60; ++i) texts.push_back(std::to_string(i % 7));
    const Reply r = Client(server.port()).ask("POST", "/v1/embeddings", to_string({{"input", texts}}));
    ASSERT_EQ(r.status, 200) << r.body.substr(0, 300);
    const Json data = r.json()["data"];
    ASSERT_EQ(data.size(), 60u);
    for (size_t i = 7; i < 60; ++i) EXPECT_EQ(data[i]["embedding"], data[i % 7]["embedding"]);
}

}  // namespace
}  // namespace smelt
