// What goes wrong below the server: devices, numbers, memory, model files. The process goes on, and says so.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "base/truncation.h"
#include "server/model_copy.h"

namespace smelt {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const std::string path = "/v1/completions";
const std::string ask = R"({"prompt":"a","max_tokens":4,"ignore_eos":true,"temperature":0})";

// Passes everything on until it is told what to do wrong.
struct Fault {
    std::function<void(StepResult&)> after_run = {};
    std::mutex mutex;

    void set(std::function<void(StepResult&)> f) {
        const std::lock_guard lock(mutex);
        after_run = std::move(f);
    }
};

class FaultyRunner final : public ModelRunner {
 public:
    FaultyRunner(std::unique_ptr<ModelRunner> runner, std::shared_ptr<Fault> fault)
        : runner_(std::move(runner)), fault_(std::move(fault)) {}
    const RunnerShape& shape() const override { return runner_->shape(); }
    void launch(const Batch& batch) override { runner_->launch(batch); }
    StepResult collect() override {
        StepResult result = runner_->collect();
        std::function<void(StepResult&)> f;
        {
            const std::lock_guard lock(fault_->mutex);
            f = fault_->after_run;
        }
        if (f) f(result);
        return result;
    }
    void copy_blocks(std::span<const BlockCopy> copies) override { runner_->copy_blocks(copies); }

 private:
    std::unique_ptr<ModelRunner> runner_;
    std::shared_ptr<Fault> fault_;
};

TestServerOptions with(const std::shared_ptr<Fault>& fault, double step_timeout = 120) {
    TestServerOptions o;
    o.step_timeout = step_timeout;
    o.access.admin_keys = {"k"};
    o.wrap_runner = [fault](std::unique_ptr<ModelRunner> r) {
        return std::make_unique<FaultyRunner>(std::move(r), fault);
    };
    return o;
}

Reply post(TestServer& server, const std::string& body, const std::string& to = path) {
    return Client(server.port()).ask("POST", to, body);
}

Json health(TestServer& server, int status) {
    const Reply r = Client(server.port()).ask("GET", "/health");
    EXPECT_EQ(r.status, status) << r.body;
    return r.json();
}

TEST(Device, NothingIsAnsweredFromOneThatFailed) {
    const auto fault = std::make_shared<Fault>();
    TestServer server(with(fault));
    EXPECT_EQ(post(server, ask).status, 200);
    std::atomic<int> n = 0;
    fault->set([&n](StepResult&) {
        if (++n == 3) throw std::runtime_error("launch failed at /internal/kernel.cu");
    });
    Client streaming(server.port());
    streaming.send(
        Client::request("POST", path, R"({"prompt":"a","max_tokens":20,"ignore_eos":true,"stream":true})"));
    const std::string events = streaming.read_reply().body;
    EXPECT_NE(events.find("\"code\":\"device_lost\""), std::string::npos) << events;
    EXPECT_EQ(events.find("kernel.cu"), std::string::npos) << "a client learns internal names";
    EXPECT_TRUE(events.ends_with("data: [DONE]\n\n"));
    fault->set({});  // and though it would work again
    const Reply r = post(server, ask);
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.code(), "device_lost");
    EXPECT_NE(r.header("retry-after"), "");
    EXPECT_EQ(health(server, 503)["models"][0]["status"], "failed");
    // Unloading and loading is the way back.
    const std::string key = "Host: localhost\r\nAuthorization: Bearer k\r\n";
    Client admin(server.port());
    EXPECT_EQ(admin.ask("POST", "/admin/unload", R"({"name":"demo-5m"})", key).status, 200);
    EXPECT_EQ(
        admin.ask("POST", "/admin/load", R"({"name":"demo-5m","path":")" + bundled("demo-5m") + "\"}", key)
            .status,
        200);
    EXPECT_EQ(post(server, ask).status, 200);
    health(server, 200);
}

TEST(Device, TooLittleMemoryEndsOneRequestAndNoMore) {
    const auto fault = std::make_shared<Fault>();
    TestServer server(with(fault));
    fault->set([](StepResult&) { throw std::bad_alloc(); });
    const Reply r = post(server, ask);
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.code(), "insufficient_memory");
    fault->set({});
    EXPECT_EQ(post(server, ask).status, 200);
    health(server, 200);
}

TEST(Numbers, NaNEndsTheAnswerWithAnErrorAndNeverReachesJson) {
    const auto fault = std::make_shared<Fault>();
    TestServer server(with(fault));
    std::atomic<int> n = 0;
    fault->set([&n](StepResult& result) {
        static const std::vector<int32_t> no_numbers(64, static_cast<int32_t>(DrawProblem::nan));
        if (++n >= 3) result.tokens = std::span(no_numbers).first(result.tokens.size());
    });
    for (const char* more : {"", R"(,"logprobs":5)", R"(,"logprobs":5,"echo":true)"}) {
        const Reply r = post(server, R"({"prompt":"What is that","max_tokens":50,"ignore_eos":true)" +
                                         std::string(more) + "}");
        EXPECT_EQ(r.status, 500) << r.body;
        EXPECT_EQ(r.code(), "numeric_error");
        EXPECT_EQ(r.body.find("nan"), std::string::npos);
    }
    fault->set({});
    EXPECT_EQ(post(server, ask).status, 200);
}

TEST(Watchdog, AnEngineThatHangsIsSeenAndSoIsItsEnd) {
    const auto fault = std::make_shared<Fault>();
    TestServer server(with(fault, 0.1));
    std::atomic<bool> hang = true;
    fault->set([&](StepResult&) { hang.wait(true); });
    Client waiting(server.port());
    waiting.send(Client::request("POST", path, ask));
    std::this_thread::sleep_for(400ms);
    EXPECT_EQ(health(server, 503)["models"][0]["status"], "hung");
    hang = false;
    hang.notify_all();
    EXPECT_EQ(waiting.read_reply().status, 200);
    health(server, 200);
}

TEST(ModelFile, CutShortWhileServedEndsThatModelAlone) {
    guard_mapped_files();
    const ModelCopy copy("cut");
    TestServerOptions options;
    options.specs = {{.name = "victim", .path = copy.path()}};
    TestServer server(options);
    const std::string victim = R"({"model":"victim","prompt":"a","max_tokens":4,"ignore_eos":true})";
    const std::string other = R"({"model":"demo-5m","prompt":"a","max_tokens":4,"ignore_eos":true})";
    EXPECT_EQ(post(server, victim).status, 200);
    fs::resize_file(copy.weights(), 4096);
    EXPECT_EQ(post(server, victim).status, 503);
    const Reply r = post(server, victim);
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.code(), "model_unavailable");
    EXPECT_EQ(post(server, other).status, 200);
    // Whoever leaves the choice to the server gets the one that works.
    for (const char* priority : {"speed", "quality", "balanced"}) {
        EXPECT_EQ(
            post(server,
                 fmt::format(R"({{"model":"auto","priority":"{}","prompt":"a","max_tokens":2}})", priority))
                .status,
            200);
    }
    EXPECT_EQ(health(server, 503)["models"][1]["status"], "failed");
}

TEST(ModelFile, DeletedOrReplacedWhileServedChangesNothing) {
    const ModelCopy copy("gone");
    TestServerOptions options;
    options.models = {};
    options.specs = {{.name = "m", .path = copy.path()}};
    TestServer server(options);
    const std::string before = post(server, ask).json()["choices"][0]["text"];
    fs::rename(copy.weights(), copy.weights().string() + ".old");
    copy.write("model.safetensors", "something else");
    EXPECT_EQ(post(server, ask).json()["choices"][0]["text"], before);
    fs::remove(copy.weights().string() + ".old");
    EXPECT_EQ(post(server, ask).json()["choices"][0]["text"], before);
}

TEST(ModelFile, DamagedOnesAreRefusedAndOthersAnswer) {
    const ModelCopy copy("damaged");
    TestServerOptions options;
    options.access.admin_keys = {"k"};
    TestServer server(options);
    const std::string key = "Host: localhost\r\nAuthorization: Bearer k\r\n";
    const auto load = [&] {
        const auto start = std::chrono::steady_clock::now();
        const Reply r = Client(server.port())
                            .ask("POST", "/admin/load", R"({"name":"x","path":")" + copy.path() + "\"}", key);
        EXPECT_LT(std::chrono::steady_clock::now() - start, 5s * patience);
        return r;
    };
    const std::string good = [&] {
        std::ifstream in(copy.weights(), std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    }();
    const auto expect_refused = [&](const std::string& bytes, const std::string& what) {
        std::ofstream(copy.weights(), std::ios::binary) << bytes;
        const Reply r = load();
        EXPECT_EQ(r.status, 400) << what << r.body;
        EXPECT_EQ(r.code(), "model_invalid") << what;
        EXPECT_EQ(post(server, ask).status, 200) << what;
    };
    for (const size_t n :
         {size_t{0}, size_t{4}, size_t{8}, size_t{100}, size_t{4096}, good.size() / 2, good.size() - 1}) {
        expect_refused(good.substr(0, n), fmt::format("{} bytes", n));
    }
    std::string header_of_2_63 = good;
    header_of_2_63[7] = '\x80';
    expect_refused(header_of_2_63, "header length");
    std::string no_json = good;
    no_json.replace(8, 20, std::string(20, '\0'));
    expect_refused(no_json, "header is no JSON");
    std::string other_shape = good;
    const size_t at = other_shape.find("\"shape\":[");
    ASSERT_NE(at, std::string::npos);
    other_shape[at + 9] = '9';
    expect_refused(other_shape, "shape");
}

// A template is a program that comes with a model, and some are written to hurt.
TEST(ModelTemplate, BombsEndAsAnErrorOfTheRequest) {
    const std::vector<std::string> bombs = {
        "{% for i in range(1000000000) %}x{% endfor %}",
        "{% set ns = namespace(s='xxxxxxxxxx') %}{% for i in range(60) %}{% set ns.s = ns.s + ns.s %}{% "
        "endfor %}{{ ns.s }}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ 'x' * 1000000000 }}",
        "{{ range(999999999) | list }}",
    };
    for (size_t i = 0; i < bombs.size(); ++i) {
        SCOPED_TRACE(bombs[i]);
        const ModelCopy copy(fmt::format("bomb{}", i));
        copy.set_template(bombs[i]);
        TestServerOptions options;
        options.models = {};
        options.specs = {{.name = "m", .path = copy.path()}};
        TestServer server(options);
        const auto start = std::chrono::steady_clock::now();
        const Reply r = post(server, R"({"messages":[{"role":"user","content":"a"}],"max_tokens":2})",
                             "/v1/chat/completions");
        EXPECT_LT(std::chrono::steady_clock::now() - start, 3s * patience);
        // What is not there is nothing, in Jinja's own words: no error, but nothing to see either.
        if (r.status == 200) {
            EXPECT_NE(bombs[i].find("__class__"), std::string::npos) << r.body;
        } else {
            EXPECT_EQ(r.status, 400) << r.body;
            EXPECT_EQ(r.code(), "template_error");
        }
        EXPECT_EQ(post(server, ask).status, 200);
    }
}

}  // namespace
}  // namespace smelt
