// smelt run as a person meets it: at a terminal, which is a pseudo-terminal here.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>
#if defined(__APPLE__)
#include <util.h>
#else
#include <pty.h>
#endif

#include <chrono>

#include "apps/command.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "fmt/core.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-23m";

class Terminal {
 public:
    explicit Terminal(std::vector<std::string> arguments) {
        const std::string home = testing::TempDir() + fmt::format("smelt_terminal_{}", ::getpid());
        std::filesystem::create_directories(home);
        arguments.insert(arguments.begin(), SMELT_BINARY);
        winsize size{};
        size.ws_row = 24;
        size.ws_col = 200;
        pid_ = ::forkpty(&fd_, nullptr, nullptr, &size);
        if (pid_ == 0) {
            ::setenv("XDG_STATE_HOME", home.c_str(), 1);
            ::setenv("LC_ALL", "C.UTF-8", 1);
            ::setenv("TERM", "xterm", 1);
            std::vector<char*> argv;
            for (std::string& a : arguments) argv.push_back(a.data());
            argv.push_back(nullptr);
            ::execv(argv[0], argv.data());
            ::_exit(127);
        }
    }
    ~Terminal() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        ::close(fd_);
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;

    void type(const std::string& bytes) {
        ASSERT_EQ(::write(fd_, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
    }
    // Waits until the terminal shows `text` after what was waited for before; false after a minute.
    bool shows(const std::string& text) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (std::chrono::steady_clock::now() < until) {
            if (const size_t at = screen_.find(text, seen_); at != std::string::npos) {
                seen_ = at + text.size();
                return true;
            }
            if (!read_some(100) && gone_) break;
        }
        ADD_FAILURE() << "no \"" << text << "\" in: " << screen_.substr(std::min(seen_, screen_.size()));
        return false;
    }
    // The rest of what it says, and the exit code.
    int wait() {
        const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(60);
        while (!gone_ && std::chrono::steady_clock::now() < until) read_some(100);
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    const std::string& screen() const { return screen_; }

 private:
    bool read_some(int patience) {
        pollfd p{fd_, POLLIN, 0};
        if (::poll(&p, 1, patience) <= 0) return false;
        char bytes[4096];
        const ssize_t n = ::read(fd_, bytes, sizeof bytes);
        if (n <= 0) {
            gone_ = true;
            return false;
        }
        screen_.append(bytes, static_cast<size_t>(n));
        return true;
    }

    pid_t pid_ = -1;
    int fd_ = -1;
    std::string screen_;
    size_t seen_ = 0;
    bool gone_ = false;
};

Json saved(Terminal& terminal) {
    const std::string path = testing::TempDir() + fmt::format("smelt_saved_{}.json", ::getpid());
    terminal.type("/save " + path + "\r");
    EXPECT_TRUE(terminal.shows("written to"));
    const Json messages = parse_json(MappedFile(path).text(), path);
    std::filesystem::remove(path);
    return messages;
}

TEST(Terminal, PastedLinesAreOneMessage) {
    Terminal t({"run", model, "--temp", "0", "--no-think", "-n", "12"});
    ASSERT_TRUE(t.shows("/help lists the commands"));
    ASSERT_TRUE(t.shows("> "));
    EXPECT_NE(t.screen().find("\x1b[?2004h"), std::string::npos) << "the terminal is asked to mark pastes";
    // A terminal sends line breaks as if the return key had been pressed.
    t.type(
        "Say: \x1b[200~What is\r\t12 + 30?\rGr\xc3\xbc\xc3\x9f"
        "e\x1b[31m\r\x1b[201~");
    ASSERT_TRUE(t.shows("e"));
    t.type(" now\r");
    ASSERT_TRUE(t.shows("\x1b[?2004h")) << "the prompt comes back after the answer";
    const Json messages = saved(t);
    ASSERT_EQ(messages.size(), 2u) << messages;
    EXPECT_EQ(messages[0].at("content"),
              "Say: What is\n\t12 + 30?\nGr\xc3\xbc\xc3\x9f"
              "e[31m now");
    t.type("/exit\r");
    EXPECT_EQ(t.wait(), 0);
}

TEST(Terminal, TypedTextsOfSeveralLines) {
    Terminal t({"run", model, "--temp", "0", "--no-think", "-n", "4"});
    ASSERT_TRUE(t.shows("> "));
    t.type("one\\\r");
    ASSERT_TRUE(t.shows(". "));
    t.type("two\r");
    ASSERT_TRUE(t.shows("\x1b[?2004h"));
    t.type("\"\"\"three\r");
    ASSERT_TRUE(t.shows(". "));
    t.type("four\"\"\"\r");
    ASSERT_TRUE(t.shows("\x1b[?2004h"));
    ASSERT_TRUE(t.shows("> "));
    const Json messages = saved(t);
    ASSERT_EQ(messages.size(), 4u) << messages;
    EXPECT_EQ(messages[0].at("content"), "one\ntwo");
    EXPECT_EQ(messages[2].at("content"), "three\nfour");
    t.type("\x04");
    EXPECT_EQ(t.wait(), 0);
}

TEST(Terminal, CtrlCThrowsALineAwayAndCtrlDLeaves) {
    Terminal t({"run", model, "--temp", "0", "--no-think", "-n", "4"});
    ASSERT_TRUE(t.shows("> "));
    t.type("never sent");
    ASSERT_TRUE(t.shows("sent"));
    t.type("\x03");
    ASSERT_TRUE(t.shows("> "));
    t.type("hello\r");
    ASSERT_TRUE(t.shows("\x1b[?2004h"));
    ASSERT_TRUE(t.shows("> "));
    const Json messages = saved(t);
    ASSERT_EQ(messages.size(), 2u) << messages;
    EXPECT_EQ(messages[0].at("content"), "hello");
    t.type("\x04");
    EXPECT_EQ(t.wait(), 0);
    EXPECT_NE(t.screen().find("tok/s"), std::string::npos);
}

TEST(Terminal, CtrlCStopsAnAnswerAndNotTheProgram) {
    Terminal t({"run", model, "--no-think", "--regex", "z{900}"});
    ASSERT_TRUE(t.shows("> "));
    t.type("hello\r");
    ASSERT_TRUE(t.shows("zzzz"));
    t.type("\x03");
    ASSERT_TRUE(t.shows("\x1b[?2004h"));
    ASSERT_TRUE(t.shows("> "));
    const Json messages = saved(t);
    ASSERT_EQ(messages.size(), 2u);
    EXPECT_LT(messages[1].at("content").get<std::string>().size(), 900u);
    t.type("/exit\r");
    EXPECT_EQ(t.wait(), 0);
}

// A model that has read a web page must not move the cursor or set the title.
TEST(Terminal, ControlCharactersOfAnAnswerAreShown) {
    const std::string grammar = "root ::= \"\\x1b[31mred\\x07\\x9b\"";
    Terminal t({"run", model, "-p", "hi", "--no-think", "--grammar", grammar});
    EXPECT_EQ(t.wait(), 0);
    EXPECT_NE(t.screen().find("\xe2\x90\x9b[31mred\xe2\x90\x87"), std::string::npos) << t.screen();
    EXPECT_EQ(t.screen().find("\x1b[31m"), std::string::npos) << t.screen();
    EXPECT_EQ(t.screen().find("\xc2\x9b"), std::string::npos) << t.screen();
    // A file gets what the model wrote.
    EXPECT_EQ(
        smelt_command("run " + model + " -q -p hi --no-think --grammar '" + grammar + "'").out.substr(0, 8),
        "\x1b[31mred");
}

TEST(Terminal, PipesWithoutFlags) {
    const std::string ask = "run " + model + " --temp 0 --no-think -n 16 -v ";
    const CommandResult both = smelt_command(ask + "'What is'", "12 + 30?");
    EXPECT_EQ(both.status, 0) << both.err;
    EXPECT_NE(both.err.find("What is\n\n12 + 30?"), std::string::npos) << both.err;
    const CommandResult alone = smelt_command(ask, "What is 12 + 30?");
    EXPECT_NE(alone.err.find("What is 12 + 30?"), std::string::npos) << alone.err;
    EXPECT_EQ(alone.out, "12 + 30 = 42\n");
    // Programs write --prompt, and may leave the other end of a pipe open.
    const CommandResult flag = smelt_command(ask + "-p 'What is 12 + 30?'", "more");
    EXPECT_EQ(flag.err.find("more"), std::string::npos) << flag.err;
    EXPECT_EQ(smelt_command(ask, "").status, 1);
}

TEST(Terminal, QuietIsSilent) {
    const CommandResult r = smelt_command("run " + model + " -q -p 'What is 12 + 30?' --temp 0 --no-think");
    EXPECT_EQ(r.out, "12 + 30 = 42\n");
    EXPECT_EQ(r.err, "");
}

class RunBatch : public testing::Test {
 protected:
    std::string file(const char* name) const {
        return testing::TempDir() + fmt::format("smelt_batch_{}_{}", ::getpid(), name);
    }
    void TearDown() override {
        std::filesystem::remove(file("in"));
        std::filesystem::remove(file("out"));
    }
    CommandResult run(const std::string& more = "") const {
        return smelt_command(
            fmt::format("run {} --temp 0 --no-think -n 32 --batch {} {}", model, file("in"), more));
    }
    static std::vector<Json> lines_of(const std::string& text) {
        std::vector<Json> lines;
        size_t at = 0;
        for (size_t end = 0; (end = text.find('\n', at)) != std::string::npos; at = end + 1)
            lines.push_back(parse_json(text.substr(at, end - at), "line"));
        return lines;
    }
};

TEST_F(RunBatch, AnswersEachLineInOrderAndNamesWhatFails) {
    std::ofstream(file("in")) << R"("What is 12 + 30?"
{"id": "seven", "prompt": "What is 3 + 4?", "max_tokens": 3}

{"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "What is 5 + 5?"}]}}
{"prompt": "x", "temprature": 1}
[1, 2
)";
    const CommandResult r = run();
    EXPECT_EQ(r.status, 1);
    const std::vector<Json> lines = lines_of(r.out);
    ASSERT_EQ(lines.size(), 5u) << r.out;
    for (size_t i = 0; i < lines.size(); ++i) EXPECT_EQ(lines[i].at("index"), i);
    EXPECT_EQ(lines[0].at("answer"), "12 + 30 = 42");
    EXPECT_EQ(lines[0].at("finish_reason"), "stop");
    EXPECT_EQ(lines[1].at("id"), "seven");
    EXPECT_EQ(lines[1].at("usage").at("completion_tokens"), 3);
    EXPECT_EQ(lines[1].at("finish_reason"), "length");
    EXPECT_EQ(lines[2].at("id"), "c");
    EXPECT_NE(lines[2].at("answer").get<std::string>().find("10"), std::string::npos);
    EXPECT_NE(lines[3].at("error").get<std::string>().find("temperature"), std::string::npos) << lines[3];
    EXPECT_TRUE(lines[4].contains("error"));
    EXPECT_NE(r.err.find("2 of 5 lines failed"), std::string::npos) << r.err;
}

TEST_F(RunBatch, GoesOnWhereItWasStopped) {
    {
        std::ofstream in(file("in"));
        for (int i = 0; i < 80; ++i) in << fmt::format("\"What is {} + 7?\"\n", i);
    }
    const CommandResult whole = run();
    ASSERT_EQ(whole.status, 0) << whole.err;
    ASSERT_EQ(lines_of(whole.out).size(), 80u);
    // As it would be after a kill: some lines, and a part of one.
    size_t at = 0;
    for (int i = 0; i < 30; ++i) at = whole.out.find('\n', at) + 1;
    std::ofstream(file("out")) << whole.out.substr(0, at + 25);
    const CommandResult rest = run("-o " + file("out"));
    EXPECT_EQ(rest.status, 0) << rest.err;
    EXPECT_NE(rest.err.find("30 answers are there already"), std::string::npos) << rest.err;
    EXPECT_EQ(std::string(MappedFile(file("out")).text()), whole.out) << "the same as in one go";
    // All is there: no model is opened.
    EXPECT_EQ(run("-o " + file("out")).status, 0);
    // Another question than the one that was answered.
    std::ofstream(file("in")) << "\"What is 9 + 9?\"\n";
    const CommandResult other = run("-o " + file("out"));
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.err.find("has an answer to another question"), std::string::npos) << other.err;
}

}  // namespace
}  // namespace smelt
