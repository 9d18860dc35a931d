// What befalls the process as a whole: signals, memory, descriptors, disks, clocks, a service manager.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "apps/serve_process.h"
#include "sanitizer.h"

namespace smelt {
namespace {

using namespace std::chrono_literals;

const std::string model = SMELT_MODELS "/demo-5m";
const std::string hello = R"({"prompt":"Hello","max_tokens":2})";

int status_of(const Process& p, const std::string& body = hello) {
    return Client(p.port()).ask("POST", "/v1/completions", body).status;
}

TEST(Process, KilledAndStartedAgainOnTheSamePort) {
    Process first({model, "--port", "0"});
    const std::string port = std::to_string(first.port());
    Client streaming(first.port());
    streaming.send(Client::request("POST", "/v1/completions",
                                   R"({"prompt":"a","max_tokens":900,"ignore_eos":true,"stream":true})"));
    ASSERT_TRUE(streaming.receive_until("data: "));
    first.signal(SIGKILL);
    EXPECT_EQ(first.wait(), 128 + SIGKILL);
    const Process second({model, "--port", port});
    EXPECT_EQ(status_of(second), 200);
}

// Whatever the limit, it serves or says in one line why not; no signal ends it.
TEST(Process, LittleAddressSpace) {
    if (has_shadow_memory) GTEST_SKIP() << "a sanitizer's memory does not fit";
    int n_served = 0, n_refused = 0;
    for (const rlim_t mib : {40, 64, 96, 128, 192, 256, 1024}) {
        Process p({model, "--port", "0", "-q"}, {.limits = {{RLIMIT_AS, mib << 20}}, .errors = ""});
        if (p.address().empty()) {
            const int code = p.wait();
            // 127: not even the dynamic loader fits.
            EXPECT_TRUE(code == 1 || code == 127) << mib << " MiB: " << code << p.errors();
            EXPECT_NE(p.errors(), "") << mib;
            ++n_refused;
            continue;
        }
        ++n_served;
        for (int i = 0; i < 3; ++i) {
            const int status =
                status_of(p, R"({"prompt":"a","max_tokens":200,"n":16,"ignore_eos":true,"logprobs":5})");
            // 0: not even memory for an error, so the connection closed.
            EXPECT_TRUE(status == 200 || status == 503 || status == 0) << mib << " MiB: " << status;
        }
        EXPECT_TRUE(p.runs()) << mib << p.errors();
        p.signal(SIGTERM);
        EXPECT_EQ(p.wait(), 0) << p.errors();
    }
    EXPECT_GT(n_served, 0);
    EXPECT_GT(n_refused, 0);
}

TEST(Process, FewFileDescriptors) {
    if (has_shadow_memory) GTEST_SKIP() << "a sanitizer opens pipes to look at an object";
    Process p({model, "--port", "0"}, {.limits = {{RLIMIT_NOFILE, 40}}, .errors = ""});
    ASSERT_NE(p.address(), "") << p.errors();
    std::vector<std::unique_ptr<Client>> crowd;
    for (int i = 0; i < 100; ++i) crowd.push_back(std::make_unique<Client>(p.port()));
    const double before = p.cpu_seconds();
    std::this_thread::sleep_for(1s);
    EXPECT_LT(p.cpu_seconds() - before, 0.05) << "it spins";
    crowd.clear();
    EXPECT_EQ(status_of(p), 200);
}

TEST(Process, AFullDiskForItsLog) {
    Process p({model, "--port", "0", "-v"}, {.errors = "/dev/full"});
    ASSERT_NE(p.address(), "");
    for (int i = 0; i < 20; ++i) EXPECT_EQ(status_of(p), 200);
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(), 0);
}

TEST(Process, NothingToDoCostsNothing) {
    const Process p({model, "--port", "0"});
    EXPECT_EQ(status_of(p), 200);
    Client idle(p.port());
    std::this_thread::sleep_for(200ms);
    const double before = p.cpu_seconds();
    std::this_thread::sleep_for(2s);
    EXPECT_LE(p.cpu_seconds() - before, 0.02);  // two ticks of the clock that counts it
}

// The wall clock runs an hour ahead or back with every second; deadlines do not notice.
TEST(Process, AClockThatJumps) {
    if (has_shadow_memory) GTEST_SKIP() << "a sanitizer wants to be loaded first";
    Process p({model, "--port", "0", "--header-timeout", "5", "--body-timeout", "5", "--idle-timeout", "5"},
              {.environment = {{"LD_PRELOAD", SMELT_JUMPING_CLOCK}}, .errors = ""});
    ASSERT_NE(p.address(), "") << p.errors();
    Client slow(p.port());
    const std::string request = Client::request("POST", "/v1/completions", hello);
    for (const char c : request) {
        slow.send({&c, 1});
        std::this_thread::sleep_for(10ms);
    }
    const Reply r = slow.read_reply();
    EXPECT_EQ(r.status, 200);
    std::this_thread::sleep_for(1500ms);
    EXPECT_EQ(slow.ask("GET", "/health").status, 200) << "the connection was idle for 1.5 of its 5 seconds";
    const Json timings = r.json()["timings"];
    for (const char* t : {"queued_ms", "prompt_ms", "predicted_ms"}) {
        EXPECT_GE(timings[t].get<double>(), 0) << t;
        EXPECT_LT(timings[t].get<double>(), 60'000) << t;
    }
}

// A socket as systemd's, of which the test is the other end.
class NotifySocket {
 public:
    NotifySocket()
        : path_(std::filesystem::temp_directory_path() / fmt::format("smelt_notify_{}", ::getpid())) {
        std::filesystem::remove(path_);
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        std::ranges::copy(path_.string(), address.sun_path);
        if (::bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
            throw std::runtime_error("bind");
    }
    ~NotifySocket() {
        ::close(fd_);
        std::filesystem::remove(path_);
    }
    std::string path() const { return path_; }
    // "": nothing came.
    std::string receive(double seconds) {
        pollfd p{fd_, POLLIN, 0};
        if (::poll(&p, 1, static_cast<int>(seconds * 1000)) <= 0) return "";
        char text[4096];
        const ssize_t n = ::recv(fd_, text, sizeof text, 0);
        return {text, static_cast<size_t>(std::max<ssize_t>(n, 0))};
    }

 private:
    std::filesystem::path path_;
    int fd_ = ::socket(AF_UNIX, SOCK_DGRAM, 0);
};

TEST(Service, TheManagerHearsThatItIsReadyAliveAndEnding) {
    NotifySocket manager;
    Process p(
        {model, "--port", "0"},
        {.environment = {{"NOTIFY_SOCKET", manager.path()}, {"WATCHDOG_USEC", "300000"}}, .errors = ""});
    EXPECT_EQ(manager.receive(10), "READY=1");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(manager.receive(1), "WATCHDOG=1");
    p.signal(SIGTERM);
    std::string last;
    for (std::string m = manager.receive(5); !m.empty() && last != "STOPPING=1"; m = manager.receive(1))
        last = m;
    EXPECT_EQ(last, "STOPPING=1");
    EXPECT_EQ(p.wait(), 0);
}

TEST(Signals, AHangUpDrainsAsATerminationDoes) {
    Process p({model, "--port", "0"});
    Client streaming(p.port());
    streaming.send(Client::request("POST", "/v1/completions",
                                   R"({"prompt":"a","max_tokens":300,"ignore_eos":true,"stream":true})"));
    ASSERT_TRUE(streaming.receive_until("data: "));
    p.signal(SIGHUP);
    EXPECT_TRUE(streaming.receive_until("data: [DONE]"));
    EXPECT_EQ(p.wait(), 0);
}

// A worker that computes for long, and one that does not at all.
TEST(Signals, TheSecondEndsAServerWhateverItsThreadsDo) {
    Process p({model, "--port", "0"});
    std::string words;
    for (int i = 0; i < 400; ++i) words += fmt::format("{}\"w{}\"", i == 0 ? "" : ",", i);
    const std::string body = fmt::format(
        R"({{"messages":[{{"role":"user","content":"a"}}],"response_format":{{"type":"json_schema","json_schema":{{)"
        R"("name":"x","schema":{{"enum":[{}],"pattern":"^.*w.{{14}}$"}}}}}}}})",
        words);
    Client busy(p.port());
    busy.send(Client::request("POST", "/v1/chat/completions", body));
    std::this_thread::sleep_for(300ms);
    const auto start = std::chrono::steady_clock::now();
    p.signal(SIGTERM);
    std::this_thread::sleep_for(200ms);
    p.signal(SIGTERM);
    const int code = p.wait();
    EXPECT_TRUE(code == 128 + SIGTERM || code == 0) << code;
    EXPECT_LT(std::chrono::steady_clock::now() - start, 10s * patience);
}

// smelt serve 2>&1 | tee log, and tee is killed.
TEST(Signals, AReaderOfTheLogThatHasGoneEndsNothing) {
    const std::string fifo = std::filesystem::temp_directory_path() / fmt::format("smelt_log_{}", ::getpid());
    std::filesystem::remove(fifo);
    ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
    const int reader = ::open(fifo.c_str(), O_RDONLY | O_NONBLOCK);
    ASSERT_GE(reader, 0);
    Process p({model, "--port", "0", "-v"}, {.errors = fifo});
    ASSERT_NE(p.address(), "");
    ::close(reader);
    for (int i = 0; i < 3; ++i) EXPECT_EQ(status_of(p), 200);
    p.signal(SIGTERM);  // which is logged
    EXPECT_EQ(p.wait(), 0);
    std::filesystem::remove(fifo);
}

// With every message on: neither what was asked, nor what was answered, nor the key.
TEST(Logs, HoldNoPromptNoAnswerAndNoKey) {
    Process p({SMELT_MODELS "/demo-23m", "--port", "0", "-v", "--api-key", "secret-of-mine"});
    ASSERT_NE(p.address(), "");
    const std::string headers = "Host: localhost\r\nAuthorization: Bearer secret-of-mine\r\n";
    const std::string body =
        R"({"messages":[{"role":"user","content":"What is 12 + 30? zebra"}],"temperature":0,"max_tokens":40})";
    EXPECT_EQ(Client(p.port()).ask("POST", "/v1/chat/completions", body, headers).status, 200);
    EXPECT_EQ(Client(p.port()).ask("POST", "/v1/chat/completions", "{\"zebra\":", headers).status, 400);
    EXPECT_EQ(Client(p.port())
                  .ask("GET", "/v1/models", "", "Host: localhost\r\nX-Api-Key: secret-of-hers\r\n")
                  .status,
              401);
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(), 0);
    EXPECT_NE(p.errors(), "");
    for (const char* word : {"zebra", "12 + 30", "secret-of"}) {
        EXPECT_EQ(p.errors().find(word), std::string::npos) << p.errors();
    }
}

// An empty key would be everybody's, a blank one nobody's: each source of keys refuses both by its name.
TEST(Options, KeysThatAreNone) {
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / fmt::format("smelt_keys_{}", ::getpid());
    std::filesystem::create_directories(folder);
    const auto config = [&](const std::string& name, const std::string& text) {
        std::ofstream(folder / name) << text;
        return (folder / name).string();
    };
    const std::string one = config("one", "the-key\n"),
                      nul = config("nul",
                                   "ab\x01"
                                   "cd\n"),
                      accents = config("accents", "schl\xc3\xbcssel\n");
    const std::string of_model = "[[model]]\npath = \"" + model + "\"\n";
    struct Case {
        std::vector<std::string> arguments;
        std::string word;
        std::map<std::string, std::string> environment = {};
    };
    const std::vector<Case> cases = {
        {{model, "--host", "0.0.0.0", "--api-key", ""}, "--api-key: expected a key, found an empty text"},
        {{model, "--api-key="}, "--api-key: expected a key, found what looks like an option"},
        {{model, "--api-key", "real", "--api-key", ""}, "--api-key: expected a key"},
        {{model, "--api-key", " "}, "--api-key: expected a key of visible ASCII"},
        {{model, "--api-key", "key "}, "--api-key: expected a key of visible ASCII"},
        {{model, "--api-key", "two words"}, "--api-key: expected a key of visible ASCII"},
        {{model, "--insecure", "--api-key", ""}, "--api-key: expected a key"},
        {{model, "--api-key-file", ""}, "--api-key-file"},
        {{model, "--api-key", "a", "--api-key-file", ""}, "--api-key-file"},
        {{model, "--admin-key-file", ""}, "--admin-key-file"},
        {{model, "--tls-cert", ""}, "--tls-cert"},
        {{model, "--api-key-file", nul}, nul + ": expected a key of visible ASCII"},
        {{model, "--admin-key-file", accents}, accents + ": expected a key of visible ASCII"},
        {{model, "--api-key-file", one, "--admin-key-file", one},
         "--admin-key-file: expected keys of its own"},
        {{model}, "SMELT_API_KEY: expected a key, found an empty text", {{"SMELT_API_KEY", ""}}},
        {{model}, "--api-key: expected a key of visible ASCII", {{"SMELT_API_KEY", " "}}},
        {{"--config", config("a.toml", "[server]\napi-key = \"\"\n" + of_model)},
         "--api-key: expected a key"},
        {{"--config", config("b.toml", "[server]\napi-key = [\"real\", \"\"]\n" + of_model)}, "--api-key"},
        {{"--config", config("c.toml", "[server]\napi-key-file = \"\"\n" + of_model)}, "api-key-file"},
        {{"--config", config("d.toml", "[server]\nadmin-key-file = \"\"\n" + of_model)}, "admin-key-file"},
        {{"--config", config("e.toml", of_model + "api-key-file = \"\"\n")}, "api-key-file: expected a file"},
    };
    for (const Case& c : cases) {
        std::vector<std::string> arguments = c.arguments;
        arguments.insert(arguments.end(), {"--port", "0"});
        Process p(arguments, {.environment = c.environment, .errors = ""});
        EXPECT_EQ(p.address(), "") << c.word;
        EXPECT_NE(p.wait(), 0) << c.word;
        EXPECT_NE(p.errors().find(c.word), std::string::npos) << c.word << "\n" << p.errors();
    }
    std::filesystem::remove_all(folder);
}

// Exit 2: the command line is wrong. Exit 1: what it names is. One line that says which.
TEST(Options, WrongOnesAreNamed) {
    const Process taken({model, "--port", "0"});
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / fmt::format("smelt_opt_{}", ::getpid());
    std::filesystem::create_directories(folder);
    const std::string config = folder / "smelt.toml", empty = folder / "empty";
    std::ofstream(empty) << "\n";
    std::ofstream(config) << "[server]\nport = 0\n\n[[model]]\npath = \"x\"\ncontex = 5\n";
    const std::vector<std::tuple<std::vector<std::string>, int, std::string>> cases = {
        {{model, "--port", std::to_string(taken.port())}, 1, std::to_string(taken.port())},
        {{model, "--host", "no.such.host.invalid"}, 1, "no.such.host.invalid"},
        {{model, "--host", "192.0.2.1", "--insecure", "--port", "0"}, 1, "192.0.2.1"},
        {{model, "--host", "0.0.0.0"}, 1, "--api-key-file"},
        {{model, "--no-such-flag"}, 2, "--no-such-flag"},
        {{model, "--max-queue", "0"}, 2, "--max-queue"},
        {{model, "--api-key-file", "/nonexistent"}, 1, "/nonexistent"},
        {{model, "--api-key-file", empty}, 1, empty},
        {{model, "--tls-cert", "/nonexistent", "--tls-key", "/nonexistent"}, 1, "/nonexistent"},
        {{model, "--tls-cert", "/nonexistent"}, 1, "TLS: expected a certificate and its key"},
        {{model, "--device", "abacus"}, 1, "abacus"},
        {{"--port", "0"}, 2, "MODEL"},
        {{"--config", config}, 1, config + ":6: unknown key contex; known are name, path, context,"},
        {{"--config", "/nonexistent.toml"}, 1, "/nonexistent.toml"},
    };
    for (const auto& [arguments, code, word] : cases) {
        Process p(arguments);
        EXPECT_EQ(p.address(), "");
        EXPECT_EQ(p.wait(), code) << p.errors();
        EXPECT_NE(p.errors().find(word), std::string::npos) << p.errors();
    }
    std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace smelt
