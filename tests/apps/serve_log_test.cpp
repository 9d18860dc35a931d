// What `smelt serve` says, and to whom: its start, its access log, `smelt ps` and `stop`; defaults of a
// server.
#include <gtest/gtest.h>

#include "apps/command.h"
#include "apps/serve_process.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-5m";
const std::string ask =
    R"({"messages":[{"role":"user","content":"What is 12 + 30?"}],"max_tokens":4,"temperature":0})";

std::string file(const char* name) {
    return testing::TempDir() + fmt::format("smelt_log_{}_{}", ::getpid(), name);
}

std::string text_of(const std::string& path) {
    std::ifstream in(path);
    return {std::istreambuf_iterator<char>(in), {}};
}

// Until a server has written it: a request's line comes after its answer.
std::string wait_for(const std::function<std::string()>& text, const std::string& word) {
    for (int i = 0; i < 200; ++i) {
        if (std::string now = text(); now.find(word) != std::string::npos) return now;
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    ADD_FAILURE() << "no \"" << word << "\" in: " << text();
    return text();
}

TEST(ServeLog, SaysTheMachineTheDeviceTheModelAndItsAddresses) {
    Process p({"five=" + model, "--port", "0", "-c", "512"});
    const std::string log = wait_for([&] { return p.errors(); }, "serving at");
    for (const char* word : {"info: smelt ", " cores (", " of memory, ", "device auto: cpu",
                             "not metal: ", "not cuda: ", "five: qwen3, ", " layers, dim ", "context 512 of ",
                             "KV cache ", "/dashboard", "/chat"}) {
        EXPECT_NE(log.find(word), std::string::npos) << word << "\n" << log;
    }
    EXPECT_EQ(Client(p.port()).ask("POST", "/v1/chat/completions", ask).status, 200);
    EXPECT_EQ(Client(p.port()).ask("GET", "/health").status, 200);
    EXPECT_EQ(Client(p.port()).ask("POST", "/v1/chat/completions", "{").status, 400);
    const std::string lines = wait_for([&] { return p.errors(); }, "POST /v1/chat/completions 400");
    EXPECT_NE(lines.find("POST /v1/chat/completions 200 five (the only one): "), std::string::npos) << lines;
    EXPECT_NE(lines.find("+4 tokens"), std::string::npos) << lines;
    EXPECT_EQ(lines.find("/health"), std::string::npos)
        << "asked again and again, so only with -v: " << lines;
    EXPECT_EQ(lines.find("12 + 30"), std::string::npos) << lines;
}

TEST(ServeLog, JsonInAFileAndNothingWhereItIsOff) {
    {
        Process p({"five=" + model, "--port", "0", "-q", "--access-log", "json", "--access-log-file",
                   file("json")});
        EXPECT_EQ(Client(p.port()).ask("POST", "/v1/chat/completions", ask).status, 200);
        const std::string text = wait_for([] { return text_of(file("json")); }, "\n");
        const Json line = parse_json(text.substr(0, text.find('\n')), "line");
        EXPECT_EQ(line["model"], "five");
        EXPECT_EQ(line["status"], 200);
        EXPECT_EQ(line["completion_tokens"], 4);
        p.signal(SIGTERM);
        EXPECT_EQ(p.wait(), 0);
        EXPECT_EQ(p.errors(), "") << "-q is silent";
    }
    std::filesystem::remove(file("json"));
    Process off({"five=" + model, "--port", "0", "--access-log", "off"});
    EXPECT_EQ(Client(off.port()).ask("POST", "/v1/chat/completions", ask).status, 200);
    off.signal(SIGTERM);
    EXPECT_EQ(off.wait(), 0);
    EXPECT_EQ(off.errors().find("POST"), std::string::npos) << off.errors();
}

TEST(ServeLog, PsAndStop) {
    std::ofstream(file("admin")) << "admin-key\n";
    Process p({"five=" + model, "--port", "0", "-q", "--admin-key-file", file("admin")});
    const std::string url = " --url " + p.address();
    const CommandResult list = smelt_command("ps" + url);
    EXPECT_EQ(list.status, 0) << list.err;
    EXPECT_NE(list.out.find("five"), std::string::npos) << list.out;
    EXPECT_NE(list.out.find("ok"), std::string::npos) << list.out;
    EXPECT_EQ(parse_json(smelt_command("ps --json" + url).out, "ps")["models"][0]["name"], "five");
    EXPECT_NE(smelt_command("stop five" + url).err.find("admin"), std::string::npos) << "it needs the key";
    const CommandResult stop = smelt_command("stop five --admin-key admin-key" + url);
    EXPECT_EQ(stop.status, 0) << stop.err;
    EXPECT_NE(smelt_command("ps" + url).out.find("idle"), std::string::npos);
    EXPECT_EQ(Client(p.port()).ask("POST", "/v1/chat/completions", ask).status, 200) << "loaded again";
    EXPECT_NE(smelt_command("stop six --admin-key admin-key" + url).err.find("no model six"),
              std::string::npos);
    const CommandResult nobody = smelt_command("ps --url http://127.0.0.1:1");
    EXPECT_EQ(nobody.status, 1);
    EXPECT_NE(nobody.err.find("no server answers there; smelt serve MODEL starts one"), std::string::npos)
        << nobody.err;
    std::filesystem::remove(file("admin"));
}

// What peers' flags and our own set for all requests that say nothing.
TEST(ServeDefaults, SamplingSystemTemplateAndNames) {
    std::ofstream(file("jinja"))
        << "{% for m in messages %}[{{ m.role }}|{{ m.content }}|{{ mood }}]{% endfor %}";
    Process p({"-m",
               model,
               "--port",
               "0",
               "-q",
               "--served-model-name",
               "first",
               "second",
               "third",
               "--temp",
               "0",
               "--repeat-penalty",
               "1.5",
               "--system",
               "Be kind.",
               "--chat-template-file",
               file("jinja"),
               "--chat-template-kwargs",
               R"({"mood":"calm"})",
               "--pooling",
               "last",
               "--any-model-name"});
    ASSERT_NE(p.address(), "") << p.errors();
    Client client(p.port());
    const Json props = client.ask("GET", "/props").json();
    EXPECT_EQ(props["default_generation_settings"]["params"]["temperature"], 0.0);
    EXPECT_NEAR(props["default_generation_settings"]["params"]["repeat_penalty"].get<double>(), 1.5, 1e-6);
    for (const char* name : {"first", "second", "third", "another"}) {
        const Json prompt =
            client
                .ask("POST", "/apply-template",
                     to_string(Json{{"model", name}, {"messages", {{{"role", "user"}, {"content", "Hi"}}}}}))
                .json();
        EXPECT_EQ(prompt["prompt"], "[system|Be kind.|calm][user|Hi|calm]") << name;
        EXPECT_EQ(prompt["model"], "first");
    }
    const Json own =
        client
            .ask("POST", "/apply-template",
                 R"({"messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Hi"}],)"
                 R"("chat_template_kwargs":{"mood":"bright"}})")
            .json();
    EXPECT_EQ(own["prompt"], "[system|Be brief.|bright][user|Hi|bright]") << "a request says otherwise";
    // Greedy without a word in the request.
    const std::string question = R"({"prompt":"The capital","max_tokens":8})";
    EXPECT_EQ(client.ask("POST", "/v1/completions", question).json()["choices"],
              client.ask("POST", "/v1/completions", question).json()["choices"]);
    const auto embedding = [&](const char* more) {
        return client.ask("POST", "/v1/embeddings", fmt::format(R"({{"input":"a text"{}}})", more))
            .json()["data"];
    };
    EXPECT_EQ(embedding(""), embedding(R"(,"pooling":"last")"));
    EXPECT_NE(embedding(""), embedding(R"(,"pooling":"mean")"));
    std::filesystem::remove(file("jinja"));
}

TEST(ServeDefaults, FailuresNameTheFlagThatHelps) {
    const std::pair<std::string, const char*> failures[] = {
        {"serve " + model + " --port 0 --memory-budget 0.001", "; --memory-budget allows more"},
        {"serve " + model + " --port 0 --kv-tokens 900000000",
         "; -c (serve: --kv-tokens) takes fewer tokens"},
        {"run " + model + " -p hi -c 900000000", "; -c (serve: --kv-tokens) takes fewer tokens"},
        {"run " + model + " -c 16 -p '" + std::string(400, 'x') + "'", "; -c takes a larger context"},
        {"run " + model + " -p hi --device cuda", "device cuda: "},
        {"run " + model + " -p hi --device gpu", "expected one of auto, cpu"},
    };
    for (const auto& [line, remedy] : failures) {
        const CommandResult r = smelt_command(line);
        EXPECT_EQ(r.status, 1) << line;
        EXPECT_NE(r.err.find(remedy), std::string::npos) << line << ": " << r.err;
    }
    const CommandResult beyond = smelt_command("run " + model + " -p hi -n 1 -c 4000");
    EXPECT_EQ(beyond.status, 0);
    EXPECT_NE(beyond.err.find("warning: context: 4000 tokens, more than the "), std::string::npos)
        << beyond.err;
}

TEST(Convert, WritesOverNothingWithoutForce) {
    const std::string out = file("x.gguf");
    ASSERT_EQ(smelt_command("convert " + model + " " + out).status, 0);
    for (const char* verb : {"convert ", "quantize --format Q8_0 "}) {
        const CommandResult again = smelt_command(verb + model + " " + out);
        EXPECT_EQ(again.status, 1);
        EXPECT_NE(again.err.find("exists already; --force writes over it"), std::string::npos) << again.err;
        EXPECT_EQ(smelt_command(verb + model + " " + out + " --force").status, 0);
    }
    EXPECT_NE(smelt_command("show " + out).out.find("q8_0"), std::string::npos)
        << "Q8_0 is how others spell it";
    std::filesystem::remove(out);
}

}  // namespace
}  // namespace smelt
