// smelt serve as a process: the address it prints, signals and exit codes.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <array>

#include "server/client.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-23m";

class Process {
 public:
    explicit Process(std::vector<std::string> arguments) {
        std::array<int, 2> ends{};
        if (::pipe(ends.data()) != 0) throw std::runtime_error("pipe");
        arguments.insert(arguments.begin(), {SMELT_BINARY, "serve"});
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(ends[1], 1);
            ::close(ends[0]);
            std::vector<char*> argv;
            for (std::string& a : arguments) argv.push_back(a.data());
            argv.push_back(nullptr);
            ::execv(argv[0], argv.data());
            ::_exit(127);
        }
        ::close(ends[1]);
        char c = 0;
        while (::read(ends[0], &c, 1) == 1 && c != '\n') address_ += c;
        ::close(ends[0]);
    }
    ~Process() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            wait();
        }
    }
    void signal(int number) { ::kill(pid_, number); }
    // Exit code, 128 + a signal that killed it.
    int wait() {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    uint16_t port() const {
        return static_cast<uint16_t>(std::stoi(address_.substr(address_.rfind(':') + 1)));
    }
    const std::string& address() const { return address_; }

 private:
    pid_t pid_ = -1;
    std::string address_;
};

const std::string long_stream = R"({"prompt":"a","max_tokens":900,"ignore_eos":true,"stream":true})";

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

TEST(Serve, RefusesWhatItCannotDo) {
    Process first({model, "--port", "0", "-q"});
    EXPECT_EQ(Process({model, "--port", std::to_string(first.port())}).wait(), 1);
    EXPECT_EQ(Process({model, "--host", "0.0.0.0", "--port", "0"}).wait(), 1);  // no key
    EXPECT_EQ(Process({"/nonexistent", "--port", "0"}).wait(), 1);
    EXPECT_EQ(Process({model, "--port", "99999"}).wait(), 2);
    EXPECT_EQ(Process({model, "--memory-budget", "0.001", "--port", "0"}).wait(), 1);
}

}  // namespace
}  // namespace smelt
