// Pictures in every dialect, to a tiny random model that takes them and to one of text alone.
#include <png.h>

#include <fstream>

#include "server/api_fixture.h"
#include "server/base64_of.h"

namespace smelt {
namespace {

const std::string vision_model = SMELT_TEST_DATA "/vision_goldens/qwen3-vl";

std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

class PicturesTest : public ::testing::Test {
 protected:
    static void SetUpTestSuite() {
        server_ =
            new TestServer({.models = {"demo-5m"}, .specs = {{.name = "qwen3-vl", .path = vision_model}}});
        for (int i = 0; i < 3; ++i)
            files_[i] = base64_of(read(fmt::format("{}/image_{}.ppm", vision_model, i)));
    }
    static void TearDownTestSuite() {
        delete server_;
        server_ = nullptr;
    }
    Reply post(const std::string& path, const Json& body) {
        Client client(server_->port());
        return client.ask("POST", path, to_string(body));
    }
    static std::string url(int picture) { return "data:image/x-portable-pixmap;base64," + files_[picture]; }
    static Json part(const std::string& link) {
        return {{"type", "image_url"}, {"image_url", {{"url", link}}}};
    }
    static Json asking(const Json& parts, const std::string& model = "qwen3-vl") {
        return {{"model", model},
                {"temperature", 0},
                {"max_tokens", 16},
                {"logprobs", true},
                {"messages", {{{"role", "user"}, {"content", parts}}}}};
    }
    static Json text(const std::string& t) { return {{"type", "text"}, {"text", t}}; }
    // The answer's tokens, with how likely each was.
    Json answer(const Json& body) {
        const Reply r = post("/v1/chat/completions", body);
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    }
    void expect_refused(const std::string& path, const Json& body, const std::string& says) {
        const Reply r = post(path, body);
        EXPECT_EQ(r.status, 400) << r.body;
        EXPECT_NE(r.body.find(says), std::string::npos) << r.body;
    }

    inline static TestServer* server_ = nullptr;
    inline static std::string files_[3];
};

TEST_F(PicturesTest, AnswersDependOnThePictureAndPrefixesAreSharedByIt) {
    const std::string question(64, 'x');
    const Json first = answer(asking({part(url(1)), text(question)}));
    // 30 tokens of the picture, two marks, the question and the turn's own.
    EXPECT_GT(first["usage"]["prompt_tokens"], 30 + 2 + 64);
    EXPECT_EQ(first["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    const Json again = answer(asking({part(url(1)), text(question)}));
    EXPECT_GE(again["usage"]["prompt_tokens_details"]["cached_tokens"], 32);
    EXPECT_EQ(again["choices"], first["choices"]);
    // As many tokens, another picture: nothing but what stands before it may be shared.
    std::string other = read(vision_model + "/image_1.ppm");
    for (size_t i = 100; i < other.size(); i += 3) other[i] = static_cast<char>(~other[i]);
    const Json changed = answer(asking({part("data:;base64," + base64_of(other)), text(question)}));
    EXPECT_EQ(changed["usage"]["prompt_tokens"], first["usage"]["prompt_tokens"]);
    EXPECT_EQ(changed["usage"]["prompt_tokens_details"]["cached_tokens"], 0);
    EXPECT_NE(changed["choices"], first["choices"]);
}

TEST_F(PicturesTest, EveryDialectShowsTheSame) {
    const std::string question = "What is this?";
    const std::string expected =
        answer(asking({part(url(0)), text(question)}))["choices"][0]["message"]["content"];
    const auto expect_answer = [&](const std::string& path, const Json& body,
                                   const Json::json_pointer& where) {
        const Reply r = post(path, body);
        ASSERT_EQ(r.status, 200) << path << ": " << r.body;
        EXPECT_EQ(r.json()[where], expected) << path;
    };
    expect_answer("/v1/messages",
                  {{"model", "qwen3-vl"},
                   {"temperature", 0},
                   {"max_tokens", 16},
                   {"messages",
                    {{{"role", "user"},
                      {"content",
                       {{{"type", "image"},
                         {"source", {{"type", "base64"}, {"media_type", "image/png"}, {"data", files_[0]}}}},
                        text(question)}}}}}},
                  "/content/0/text"_json_pointer);
    expect_answer("/v1/responses",
                  {{"model", "qwen3-vl"},
                   {"temperature", 0},
                   {"max_output_tokens", 16},
                   {"input",
                    {{{"role", "user"},
                      {"content",
                       {{{"type", "input_image"}, {"image_url", url(0)}},
                        {{"type", "input_text"}, {"text", question}}}}}}}},
                  "/output/0/content/0/text"_json_pointer);
    const Json options = {{"temperature", 0}, {"num_predict", 16}};
    expect_answer("/api/chat",
                  {{"model", "qwen3-vl"},
                   {"stream", false},
                   {"options", options},
                   {"messages", {{{"role", "user"}, {"content", question}, {"images", {files_[0]}}}}}},
                  "/message/content"_json_pointer);
    expect_answer("/api/generate",
                  {{"model", "qwen3-vl"},
                   {"stream", false},
                   {"options", options},
                   {"prompt", question},
                   {"images", {files_[0]}}},
                  "/response"_json_pointer);
}

// Alone or with others, whole or in chunks: the same tokens with the same probabilities.
TEST_F(PicturesTest, CompanyChangesNothing) {
    std::vector<Json> alone;
    for (int i = 0; i < 3; ++i)
        alone.push_back(answer(asking({text(std::string(40, static_cast<char>('a' + i))), part(url(i)),
                                       part(url((i + 1) % 3)), text("Go on.")})));
    std::vector<std::thread> clients;
    std::vector<Json> together(3);
    for (int i = 0; i < 3; ++i) {
        clients.emplace_back([&, i] {
            Json body = asking({text(std::string(40, static_cast<char>('a' + i))), part(url(i)),
                                part(url((i + 1) % 3)), text("Go on.")});
            body["cache_salt"] = "of their own";
            together[static_cast<size_t>(i)] = answer(body);
        });
    }
    for (std::thread& t : clients) t.join();
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(together[i]["choices"], alone[i]["choices"]);
}

// A file of some KB with 64 million pixels.
std::string large_png() {
    constexpr int side = 8000;
    png_image png = {};
    png.version = PNG_IMAGE_VERSION;
    png.width = png.height = side;
    png.format = PNG_FORMAT_GRAY;
    const std::vector<uint8_t> white(static_cast<size_t>(side) * side, 255);
    png_alloc_size_t n = 0;
    png_image_write_to_memory(&png, nullptr, &n, 0, white.data(), 0, nullptr);
    std::string bytes(n, '\0');
    png_image_write_to_memory(&png, bytes.data(), &n, 0, white.data(), 0, nullptr);
    return bytes.substr(0, n);
}

TEST_F(PicturesTest, SmallFilesOfLargePicturesAreBounded) {
    const std::string large = "data:image/png;base64," + base64_of(large_png());
    ASSERT_LT(large.size(), 500'000u);
    expect_refused("/v1/chat/completions",
                   asking(Json::array({part(large), part(large), part(large), part(large), part(large)})),
                   "million in all");
    // Several at once take the memory of one.
    const auto peak = [] {
        std::ifstream status("/proc/self/status");
        for (std::string word; status >> word;) {
            if (word == "VmHWM:" && status >> word) return std::stoll(word) / 1024;
        }
        return 0LL;
    };
    std::ofstream("/proc/self/clear_refs") << "5";  // the peak is what is there now
    const long long before = peak();
    std::vector<std::thread> clients;
    for (int i = 0; i < 4; ++i) clients.emplace_back([&] { answer(asking(Json::array({part(large)}))); });
    for (std::thread& t : clients) t.join();
    if (has_shadow_memory) return;
    EXPECT_LT(peak() - before, 300) << "MB";
}

TEST_F(PicturesTest, ModelsSayWhetherTheySee) {
    Client client(server_->port());
    const auto get = [&](const std::string& path) { return client.ask("GET", path, "").json(); };
    EXPECT_EQ(get("/v1/models/qwen3-vl")["architecture"]["input_modalities"], Json({"text", "image"}));
    EXPECT_EQ(get("/v1/models/demo-5m")["architecture"]["input_modalities"], Json({"text"}));
    const Json models = get("/models");
    for (const Json& m : models["models"]) EXPECT_EQ(m["takes_pictures"], m["name"] == "qwen3-vl");
    const auto capabilities = [&](const std::string& model) {
        return to_string(post("/api/show", {{"model", model}}).json()["capabilities"]);
    };
    EXPECT_NE(capabilities("qwen3-vl").find("vision"), std::string::npos);
    EXPECT_EQ(capabilities("demo-5m").find("vision"), std::string::npos);
    // Of several, auto takes one that sees.
    EXPECT_EQ(answer(asking({part(url(0)), text("What is this?")}, "auto"))["model"], "qwen3-vl");
}

TEST_F(PicturesTest, WhatIsNoPictureIsRefused) {
    const std::string chat = "/v1/chat/completions";
    expect_refused(chat, asking(Json::array({part(url(0))}), "demo-5m"), "text alone");
    expect_refused(chat, asking(Json::array({part("https://example.com/a.png")})), "nothing is fetched");
    expect_refused(chat, asking(Json::array({part("file:///etc/passwd")})), "nothing is fetched");
    expect_refused(chat, asking(Json::array({part("data:image/png;base64,!!!!")})), "base64");
    expect_refused(chat, asking(Json::array({part("data:image/png;base64," + base64_of("no picture"))})),
                   "another kind of file");
    expect_refused(chat,
                   asking(Json::array({part("data:image/png;base64," + base64_of("\x89PNG\r\n\x1a\nxx"))})),
                   "PNG");
    expect_refused(chat, asking(Json::array({part("data:;base64," + base64_of("P6 100000 100000 255\n"))})),
                   "16384 pixels");
    Json many = Json::array();
    for (int i = 0; i < 65; ++i) many.push_back(part(url(0)));
    expect_refused(chat, asking(many), "64 pictures");
    Json system = asking(Json::array({part(url(0))}));
    system["messages"][0]["role"] = "system";
    expect_refused(chat, system, "of the user alone");
}

}  // namespace
}  // namespace smelt
