// The bundled vision model on the server, whose answers depend on what it sees: every dialect, addresses,
// sequences in each other's way.
#include <algorithm>
#include <fstream>
#include <thread>

#include "base/base64.h"
#include "files/hub/fetch_url.h"
#include "hub/hub_server.h"
#include "server/api_fixture.h"
#include "server/base64_of.h"

namespace smelt {
namespace {

const std::string folder = SMELT_TEST_DATA "/demo_scenes";

struct Question {
    std::string file, text, answer;  // the picture's file as base64
};

std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// Of the first scenes, those of a kind; right answers (chat/demo_vl_test.cpp holds the model to them). It
// counts one triangle of the first scene too few.
std::vector<Question> questions(const std::string& kind, size_t n) {
    std::vector<Question> list;
    std::ifstream in(folder + "/questions.jsonl");
    for (std::string line; list.size() < n && std::getline(in, line);) {
        const Json q = parse_json(line, "questions.jsonl");
        if (q["kind"] != kind || q["picture"] == "scene_00.png") continue;
        list.push_back(
            {base64_of(read(folder + "/" + q["picture"].get<std::string>())), q["question"], q["answer"]});
    }
    return list;
}

ModelSpec demo_vl(ChatModelOptions open = {}) {
    return {.name = "demo-vl", .path = bundled("demo-vl"), .open = std::move(open)};
}
TestServerOptions only(ModelSpec spec) {
    return {.models = {}, .specs = {std::move(spec)}};
}

Json picture(const std::string& url) {
    return {{"type", "image_url"}, {"image_url", {{"url", url}}}};
}
Json asking(const Question& q) {
    return {{"temperature", 0},
            {"logprobs", true},
            {"max_tokens", 100},
            {"messages",
             {{{"role", "user"},
               {"content",
                {picture("data:image/png;base64," + q.file), {{"type", "text"}, {"text", q.text}}}}}}}};
}
Json ask(TestServer& server, const Json& body) {
    const Reply r = Client(server.port()).ask("POST", "/v1/chat/completions", to_string(body));
    EXPECT_EQ(r.status, 200) << r.body;
    return r.json();
}

TEST(PicturesDemo, EveryDialectSeesTheSame) {
    TestServer server(only(demo_vl()));
    std::vector<Question> all = questions("count", 3);
    for (const Question& q : questions("position", 3)) all.push_back(q);
    for (const Question& q : all) {
        SCOPED_TRACE(q.text);
        const std::string data_url = "data:image/png;base64," + q.file;
        const auto expect_answer = [&](const std::string& path, const Json& body,
                                       const Json::json_pointer& where) {
            const Reply r = Client(server.port()).ask("POST", path, to_string(body));
            ASSERT_EQ(r.status, 200) << path << ": " << r.body;
            EXPECT_EQ(r.json()[where], q.answer) << path;
        };
        const Json message = asking(q)["messages"];
        expect_answer("/v1/chat/completions", asking(q), "/choices/0/message/content"_json_pointer);
        expect_answer("/v1/messages",
                      {{"model", "demo-vl"},
                       {"max_tokens", 100},
                       {"temperature", 0},
                       {"messages",
                        {{{"role", "user"},
                          {"content",
                           {{{"type", "image"},
                             {"source", {{"type", "base64"}, {"media_type", "image/png"}, {"data", q.file}}}},
                            {{"type", "text"}, {"text", q.text}}}}}}}},
                      "/content/0/text"_json_pointer);
        expect_answer("/v1/responses",
                      {{"temperature", 0},
                       {"input",
                        {{{"role", "user"},
                          {"content",
                           {{{"type", "input_image"}, {"image_url", data_url}},
                            {{"type", "input_text"}, {"text", q.text}}}}}}}},
                      "/output/0/content/0/text"_json_pointer);
        const Json options = {{"temperature", 0}, {"num_predict", 100}};
        expect_answer("/api/chat",
                      {{"model", "demo-vl"},
                       {"stream", false},
                       {"options", options},
                       {"messages", {{{"role", "user"}, {"content", q.text}, {"images", {q.file}}}}}},
                      "/message/content"_json_pointer);
        expect_answer("/api/generate",
                      {{"model", "demo-vl"},
                       {"stream", false},
                       {"options", options},
                       {"prompt", q.text},
                       {"images", {q.file}}},
                      "/response"_json_pointer);
    }
}

// The chosen tokens of an answer, with how likely each was.
Json told(const Json& answer, size_t choice = 0) {
    return answer["choices"][choice]["logprobs"];
}

TEST(PicturesDemo, SeveralAnswersAndBeamsAreThoseOfOne) {
    TestServer server(only(demo_vl()));
    const Question q = questions("describe", 1)[0];
    Json body = asking(q);
    const Json one = ask(server, body);
    body["n"] = 3;
    const Json three = ask(server, body);
    ASSERT_EQ(three["choices"].size(), 3u);
    for (size_t i = 0; i < 3; ++i) EXPECT_EQ(told(three, i), told(one)) << i;
    // Drawn answers with a picture before the fork: those of another start with the same seed are the same.
    body.update({{"temperature", 1.5}, {"seed", 7}});
    const Json drawn = ask(server, body);
    body["cache_salt"] = "of its own";
    EXPECT_EQ(ask(server, body)["choices"], drawn["choices"]);
    // The likeliest of two beams is at least as likely as what was chosen token by token.
    const Json beams = ask(server, [&] {
        Json b = asking(q);
        b.update({{"use_beam_search", true}, {"n", 2}, {"length_penalty", 0}});
        return b;
    }());
    ASSERT_EQ(beams["choices"].size(), 2u);
    const auto sum = [](const Json& answer) {
        double total = 0;
        for (const Json& t : answer["choices"][0]["logprobs"]["content"]) total += t["logprob"].get<double>();
        return total;
    };
    EXPECT_GE(sum(beams), sum(one) - 1e-3);
}

// Too few blocks for all: some make room, and are computed again with their pictures.
TEST(PicturesDemo, PreemptionChangesNothing) {
    const std::vector<Question> all = questions("describe", 6);
    const auto body_of = [&](size_t i) {
        Json body = asking(all[i]);
        body.update({{"ignore_eos", true}, {"max_tokens", 90}});
        return body;
    };
    std::vector<Json> alone;
    {
        TestServer server(only(demo_vl()));
        for (size_t i = 0; i < all.size(); ++i) alone.push_back(ask(server, body_of(i)));
    }
    TestServer server(only(demo_vl({.n_ctx = 192, .kv_tokens = 384})));
    std::vector<Json> crowded(all.size());
    std::vector<std::thread> clients;
    for (size_t i = 0; i < all.size(); ++i)
        clients.emplace_back([&, i] { crowded[i] = ask(server, body_of(i)); });
    for (std::thread& t : clients) t.join();
    for (size_t i = 0; i < all.size(); ++i) EXPECT_EQ(told(crowded[i]), told(alone[i])) << i;
    EXPECT_GT(server.model().loaded()->stats().n_preemptions, 0);
}

// Descriptions repeat themselves: what is guessed must not be a picture's place, nor stand where one is.
TEST(PicturesDemo, GuessedTokensChangeNothing) {
    ChatModelOptions open;
    open.engine.drafts.lookup = true;
    TestServer plain(only(demo_vl())), guessing(only(demo_vl(open)));
    for (const Question& q : questions("describe", 4)) {
        const Json answer = ask(guessing, asking(q));
        EXPECT_EQ(told(answer), told(ask(plain, asking(q)))) << q.text;
    }
}

TEST(PicturesDemo, PartnersSeeTheSame) {
    TestServer server(only(demo_vl({.backend = {.n_threads = 2, .tensor_parallel = 2}})));
    for (const Question& q : questions("count", 3))
        EXPECT_EQ(ask(server, asking(q))["choices"][0]["message"]["content"], q.answer);
}

TEST(PicturesDemo, AddressesAreFetchedWhereThatIsAllowed) {
    HubServer elsewhere;
    const Question q = questions("count", 1)[0];
    const std::string file = *decode_base64(q.file);
    elsewhere.fault = [&](const HubRequest& r, HubAnswer& a) {
        if (r.path == "/scene.png") a = {.body = file};
        if (r.path == "/moved") a = {.status = 302, .headers = {"Location: /scene.png"}};
        if (r.path == "/text") a = {.body = "no picture"};
    };
    const auto body_of = [&](const std::string& url) {
        Json body = asking(q);
        body["messages"][0]["content"][0] = picture(url);
        return body;
    };
    const auto expect_refused = [&](TestServer& server, const std::string& url, const std::string& says) {
        const Reply r = Client(server.port()).ask("POST", "/v1/chat/completions", to_string(body_of(url)));
        EXPECT_EQ(r.status, 400) << r.body;
        EXPECT_NE(r.body.find(says), std::string::npos) << r.body;
    };
    const auto fetching = [](FetchRules rules) {
        return only(demo_vl({.fetch_picture = [rules](const std::string& url, auto deadline) {
            return fetch_url(url, rules, deadline);
        }}));
    };
    {
        TestServer server(only(demo_vl()));
        expect_refused(server, elsewhere.address() + "/scene.png", "--allow-image-urls");
    }
    {
        TestServer server(fetching({}));
        expect_refused(server, elsewhere.address() + "/scene.png", "private address");
    }
    EXPECT_TRUE(elsewhere.requests().empty());
    TestServer server(fetching({.private_addresses = true}));
    for (const char* path : {"/scene.png", "/moved"}) {
        const Json answer = ask(server, body_of(elsewhere.address() + path));
        EXPECT_EQ(answer["choices"][0]["message"]["content"], q.answer) << path;
    }
    expect_refused(server, elsewhere.address() + "/none", "answered 404");
    expect_refused(server, elsewhere.address() + "/text", "another kind of file");
    expect_refused(server, "http://" + std::string(9000, 'a'), "content[0].image_url.url");
}

}  // namespace
}  // namespace smelt
