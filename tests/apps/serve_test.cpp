// smelt serve as a process: the address it prints, signals and exit codes.
#include <gtest/gtest.h>

#include "apps/serve_process.h"
#include "hub/hub_server.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-23m";
const std::string long_stream = R"({"prompt":"a","max_tokens":900,"ignore_eos":true,"stream":true})";

void write_damage(const std::filesystem::path& path) {
    std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-100, std::ios::end);
    file << "damage";
}

TEST(Serve, PrintsItsAddressAndEndsWithZeroWhenIdle) {
    for (const int number : {SIGTERM, SIGINT}) {
        Process p({model, "--port", "0", "-q"});
        ASSERT_TRUE(p.address().starts_with("http://127.0.0.1:")) << p.address();
        EXPECT_EQ(Client(p.port()).ask("GET", "/health").status, 200);
        p.signal(number);
        EXPECT_EQ(p.wait(), 0);
    }
}

TEST(Serve, OneSignalLetsStreamsFinishAndASecondCutsThem) {
    Process patient({model, "--port", "0", "-q"});
    Client a(patient.port());
    std::string shorter = long_stream;
    shorter.replace(shorter.find("900"), 3, "200");
    a.send(Client::request("POST", "/v1/completions", shorter));
    ASSERT_TRUE(a.receive_until("data: "));
    patient.signal(SIGTERM);
    EXPECT_NE(a.read_reply().body.find("\"finish_reason\":\"length\""), std::string::npos);
    EXPECT_EQ(patient.wait(), 0);

    Process hasty({model, "--port", "0", "-q"});
    Client b(hasty.port());
    b.send(Client::request("POST", "/v1/completions", long_stream));
    ASSERT_TRUE(b.receive_until("data: "));
    hasty.signal(SIGTERM);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    hasty.signal(SIGTERM);
    const std::string body = b.read_reply().body;
    EXPECT_NE(body.find("shutting_down"), std::string::npos);
    EXPECT_TRUE(body.ends_with("data: [DONE]\n\n"));
    EXPECT_EQ(hasty.wait(), 128 + SIGTERM);
}

TEST(Serve, CachedPrefixesSurviveARestart) {
    namespace fs = std::filesystem;
    const fs::path dir = fs::temp_directory_path() / fmt::format("smelt-prefixes-{}", ::getpid());
    std::string prompt;
    for (int i = 0; i < 60; ++i) prompt += fmt::format("number {} ", i);
    const Json body = {{"prompt", prompt}, {"max_tokens", 8}, {"temperature", 0}};
    const auto ask = [&](const Process& p, const char* key) {
        const Reply r =
            Client(p.port()).ask("POST", "/v1/completions", to_string(body),
                                 fmt::format("Host: localhost\r\nAuthorization: Bearer {}\r\n", key));
        EXPECT_EQ(r.status, 200) << r.body;
        return r.json();
    };
    const auto n_cached = [](const Json& answer) {
        return answer["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
    };
    const std::vector<std::string> arguments = {"a.b=" + model,       "--port", "0",         "-q",
                                                "--api-key",          "one",    "--api-key", "two",
                                                "--prefix-cache-dir", dir};
    std::string text;
    for (const bool again : {false, true}) {
        Process p(arguments);
        const Json answer = ask(p, "one");
        EXPECT_EQ(n_cached(answer) > 100, again);
        if (again) {
            EXPECT_EQ(answer["choices"][0]["text"], text);
        }
        text = answer["choices"][0]["text"];
        // What another key computed is no more to be seen than before.
        if (again) {
            EXPECT_EQ(n_cached(ask(p, "two")), 0);
        }
        p.signal(SIGTERM);
        EXPECT_EQ(p.wait(), 0);
    }
    EXPECT_EQ(fs::status(dir).permissions(), fs::perms::owner_all);
    EXPECT_TRUE(fs::exists(dir / "a%2eb.0.kv"));
    write_damage(dir / "a%2eb.0.kv");
    Process p(arguments);
    EXPECT_EQ(n_cached(ask(p, "one")), 0);
    fs::remove_all(dir);
}

TEST(Serve, PicturesAreFetchedWhereAnOptionSaysSo) {
    const std::string folder = SMELT_MODELS "/demo-vl";
    HubServer elsewhere;
    std::ifstream in(folder + "/scene.png", std::ios::binary);
    const std::string scene(std::istreambuf_iterator<char>(in), {});
    elsewhere.fault = [&](const HubRequest&, HubAnswer& a) { a = {.body = scene}; };
    const Json body = {{"messages",
                        {{{"role", "user"},
                          {"content",
                           {{{"type", "image_url"}, {"image_url", {{"url", elsewhere.address() + "/a.png"}}}},
                            {{"type", "text"}, {"text", "How many red circles are there?"}}}}}}}};
    const auto ask = [&](const std::string& option) {
        std::vector<std::string> arguments = {folder, "--port", "0", "-q"};
        if (!option.empty()) arguments.push_back(option);
        Process p(arguments);
        return Client(p.port()).ask("POST", "/v1/chat/completions", to_string(body)).body;
    };
    EXPECT_NE(ask("").find("nothing is fetched"), std::string::npos);
    EXPECT_NE(ask("--allow-image-urls").find("private address"), std::string::npos);
    EXPECT_TRUE(elsewhere.requests().empty());
    EXPECT_NE(ask("--allow-private-image-urls").find("There are 3 red circles."), std::string::npos);
}

TEST(Serve, RefusesWhatItCannotDo) {
    Process first({model, "--port", "0", "-q"});
    EXPECT_EQ(Process({model, "--port", std::to_string(first.port())}).wait(), 1);
    EXPECT_EQ(Process({model, "--host", "0.0.0.0", "--port", "0"}).wait(), 1);  // no key
    EXPECT_EQ(Process({"/nonexistent", "--port", "0"}).wait(), 1);
    EXPECT_EQ(Process({model, "--port", "99999"}).wait(), 2);
    EXPECT_EQ(Process({model, "--memory-budget", "0.001", "--port", "0"}).wait(), 1);
}

// The example of docs/SERVER.md, as it stands there.
TEST(Config, TheExampleOfTheDocumentationLoads) {
    namespace fs = std::filesystem;
    std::ifstream in(SMELT_DOCS "/SERVER.md");
    const std::string page((std::istreambuf_iterator<char>(in)), {});
    const size_t start = page.find("```toml\n") + 8;
    ASSERT_GT(start, size_t{8});
    const fs::path folder = fs::temp_directory_path() / fmt::format("smelt_config_{}", ::getpid());
    fs::create_directories(folder);
    const std::string config = folder / "smelt.toml";
    std::ofstream(config) << page.substr(start, page.find("```", start) - start);
    std::ofstream(folder / "keys") << "key-one\nkey-two\n";
    std::ofstream(folder / "keys-large") << "key-large\n";
    std::ofstream(folder / "admin-key") << "key-admin\n";
    std::ofstream(folder / "own.jinja")
        << "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    fs::create_directory_symlink(SMELT_MODELS, folder / "models");
    {
        // The command line wins over the file's port, and adds a model to its own.
        Process p({"--config", config, "--port", "0", "third=" + model});
        ASSERT_NE(p.address(), "") << p.errors();
        EXPECT_FALSE(p.address().ends_with(":8080"));
        const auto get = [&](const std::string& path, const std::string& key) {
            return Client(p.port()).ask("GET", path, "",
                                        "Host: localhost\r\nAuthorization: Bearer " + key + "\r\n");
        };
        EXPECT_EQ(get("/models", "key-wrong").status, 401);
        const Json models = get("/models", "key-two").json()["models"];
        ASSERT_EQ(models.size(), 3u);
        EXPECT_EQ(models[0]["name"], "small");
        EXPECT_EQ(models[0]["replicas"], 2);
        EXPECT_EQ(models[0]["context"], 1024);
        EXPECT_EQ(models[1]["name"], "large");
        EXPECT_EQ(models[2]["name"], "third");
        const auto ask = [&](const std::string& body, const std::string& key) {
            return Client(p.port()).ask("POST", "/v1/completions", body,
                                        "Host: localhost\r\nAuthorization: Bearer " + key + "\r\n");
        };
        EXPECT_EQ(ask(R"({"model":"auto","priority":"quality","prompt":"a","max_tokens":1})", "key-large")
                      .json()["model"],
                  "large");
        EXPECT_EQ(ask(R"({"model":"auto","priority":"speed","prompt":"a","max_tokens":1})", "key-large")
                      .json()["model"],
                  "small");
        EXPECT_EQ(ask(R"({"model":"large","prompt":"a","max_tokens":1})", "key-one").status, 403);
        // Its other names, its template and its system message.
        EXPECT_EQ(ask(R"({"model":"gpt-4o","prompt":"a","max_tokens":1})", "key-large").json()["model"],
                  "large");
        const Reply prompt = Client(p.port()).ask(
            "POST", "/apply-template", R"({"model":"large","messages":[{"role":"user","content":"Hi"}]})",
            "Host: localhost\r\nAuthorization: Bearer key-large\r\n");
        EXPECT_EQ(prompt.json()["prompt"], "system: Answer briefly.\nuser: Hi\n");
        p.signal(SIGTERM);
        EXPECT_EQ(p.wait(), 0);
    }
    fs::remove_all(folder);
}

}  // namespace
}  // namespace smelt
