// smelt pull, list and rm, and ids where a model is meant, through the binary and against a hub over
// loopback.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include "apps/command.h"
#include "apps/serve_process.h"
#include "base/mapped_file.h"
#include "hub/hub_server.h"

namespace smelt {
namespace {

namespace fs = std::filesystem;

class PullTest : public ::testing::Test {
 protected:
    PullTest() : home_(fs::temp_directory_path() / fmt::format("smelt_pull_{}", ::getpid())) {
        fs::remove_all(home_);
        for (const char* name : {"config.json", "generation_config.json", "tokenizer.json",
                                 "tokenizer_config.json", "model.safetensors"}) {
            const fs::path path = fs::path(SMELT_MODELS "/demo-5m") / name;
            if (fs::exists(path))
                hub_.files[name] = {std::string(MappedFile(path).text()), path.extension() == ".safetensors"};
        }
        hub_.repo = "smelt/demo-5m";
        ::setenv("HF_ENDPOINT", hub_.address().c_str(), 1);
        ::setenv("HF_HOME", home_.c_str(), 1);
        ::unsetenv("HF_HUB_OFFLINE");
        for (const char* name : {"HF_HUB_CACHE", "HF_TOKEN", "http_proxy", "HTTP_PROXY"}) ::unsetenv(name);
    }
    ~PullTest() override { fs::remove_all(home_); }

    std::string snapshot() const {
        return (home_ / "hub/models--smelt--demo-5m/snapshots" / hub_.commit).string();
    }
    static bool is_weights(const HubRequest& r) { return r.path.ends_with("model.safetensors"); }

    fs::path home_;
    HubServer hub_;
};

TEST_F(PullTest, PullListRunRemove) {
    const CommandResult none = smelt_command("list");
    EXPECT_EQ(none.out, "");
    EXPECT_NE(none.err.find("smelt pull ORG/NAME fetches one"), std::string::npos) << none.err;
    const CommandResult pulled = smelt_command("pull smelt/demo-5m");
    EXPECT_EQ(pulled.status, 0) << pulled.err;
    EXPECT_EQ(pulled.out, snapshot() + "\n");
    EXPECT_NE(pulled.err.find("pulling smelt/demo-5m: 1"), std::string::npos) << pulled.err;
    const CommandResult list = smelt_command("list");
    EXPECT_TRUE(list.out.starts_with("smelt/demo-5m")) << list.out;
    EXPECT_NE(list.out.find(" MB  main\n"), std::string::npos) << list.out;
    const Json json = Json::parse(smelt_command("ls --json").out);
    EXPECT_EQ(json.at(0)["model"], "smelt/demo-5m");
    EXPECT_EQ(json.at(0)["partial_bytes"], 0);

    // What is here needs no network.
    ::setenv("HF_HUB_OFFLINE", "1", 1);
    hub_.forget();
    const CommandResult run = smelt_command("run smelt/demo-5m -p 'What is 12 + 30?' --temp 0 --no-think");
    EXPECT_EQ(run.out,
              smelt_command("run " SMELT_MODELS "/demo-5m -p 'What is 12 + 30?' --temp 0 --no-think").out);
    EXPECT_NE(run.out, "");
    EXPECT_EQ(smelt_command("inspect hf:smelt/demo-5m").status, 0);
    EXPECT_EQ(smelt_command("run smelt/demo-9m -p hi").status, 1);
    EXPECT_TRUE(hub_.requests().empty());

    const CommandResult removed = smelt_command("rm smelt/demo-5m");
    EXPECT_EQ(removed.status, 0);
    EXPECT_NE(removed.out.find(" MB freed"), std::string::npos) << removed.out;
    EXPECT_EQ(smelt_command("list").out, "");
    EXPECT_EQ(smelt_command("rm smelt/demo-5m").status, 1);
}

TEST_F(PullTest, VerbsThatTakeAModelPullItAndSayHowMuch) {
    const CommandResult run = smelt_command("run smelt/demo-5m -p 'What is 12 + 30?' --temp 0");
    EXPECT_EQ(run.status, 0) << run.err;
    EXPECT_NE(run.err.find(" MB in "), std::string::npos) << run.err;
    EXPECT_NE(run.out, "");
    ASSERT_EQ(smelt_command("rm smelt/demo-5m").status, 0);
    const Process server({"five=smelt/demo-5m", "--port", "0"});
    Client client(server.port());
    EXPECT_EQ(client.ask("GET", "/v1/models").json()["data"][0]["id"], "five");
}

TEST_F(PullTest, WhatFailsIsOneLineAndOne) {
    const CommandResult missing = smelt_command("run smelt/nothing -p hi");
    EXPECT_EQ(missing.status, 1);
    EXPECT_NE(missing.err.find("no such model"), std::string::npos) << missing.err;
    EXPECT_EQ(std::ranges::count(missing.err, '\n'), 1) << missing.err;
    EXPECT_EQ(smelt_command("pull nothing").status, 1);
    ::setenv("HF_TOKEN", "two words", 1);
    EXPECT_NE(smelt_command("pull smelt/demo-5m").err.find("HF_TOKEN"), std::string::npos);
    // A path with a slip of the pen asks nobody.
    ::unsetenv("HF_TOKEN");
    hub_.forget();
    EXPECT_NE(smelt_command("run " SMELT_MODELS "/demo-5n -p hi").err.find("no such file"),
              std::string::npos);
    EXPECT_TRUE(hub_.requests().empty());
}

TEST_F(PullTest, TokensOfTheEnvironmentAndOfTheHome) {
    std::mutex mutex;
    std::vector<std::string> seen;
    hub_.fault = [&](const HubRequest& r, HubAnswer& a) {
        const std::lock_guard lock(mutex);
        seen.push_back(r.field("authorization"));
        a = {.status = 404};
    };
    fs::create_directories(home_);
    std::ofstream(home_ / "token") << "of-home\n";
    smelt_command("pull smelt/demo-5m");
    ::setenv("HF_TOKEN", "of-environment", 1);
    smelt_command("pull smelt/demo-5m@some/branch");
    EXPECT_EQ(seen, (std::vector<std::string>{"Bearer of-home", "Bearer of-environment"}));
    ::unsetenv("HF_TOKEN");
}

// Starts `smelt pull` and does not wait for it.
pid_t start_pull() {
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::execl(SMELT_BINARY, SMELT_BINARY, "pull", "smelt/demo-5m", "-q", nullptr);
        ::_exit(127);
    }
    return pid;
}
int status_of(pid_t pid) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST_F(PullTest, CtrlCAndKillLeaveWhatTheNextPullGoesOnFrom) {
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a.bytes_per_ms = 1000;
    };
    const size_t whole = hub_.files.at("model.safetensors").content.size();
    for (const int signal : {SIGINT, SIGKILL}) {
        const size_t before = hub_.bytes_sent();
        const pid_t pid = start_pull();
        while (hub_.bytes_sent() < before + whole / 4)
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
        ::kill(pid, signal);
        EXPECT_EQ(status_of(pid), 128 + signal);
        EXPECT_FALSE(fs::exists(snapshot()));
    }
    hub_.fault = nullptr;
    hub_.forget();
    EXPECT_EQ(smelt_command("pull smelt/demo-5m").status, 0);
    EXPECT_LT(hub_.bytes_sent(), whole * 3 / 4);
    EXPECT_EQ(MappedFile(snapshot() + "/model.safetensors").text(),
              hub_.files.at("model.safetensors").content);
}

TEST_F(PullTest, TwoProcessesAtOnce) {
    hub_.fault = [](const HubRequest& r, HubAnswer& a) {
        if (is_weights(r)) a.bytes_per_ms = 10'000;
    };
    const pid_t a = start_pull(), b = start_pull();
    EXPECT_EQ(status_of(a), 0);
    EXPECT_EQ(status_of(b), 0);
    const auto downloads = hub_.downloads();
    EXPECT_EQ(std::ranges::count_if(downloads, is_weights), 1);
}

TEST_F(PullTest, AFullDiskNamesTheFileAndLeavesNoPartOfIt) {
    const std::string limited =
        fmt::format("sh -c 'trap \"\" XFSZ; ulimit -f 2000; exec {} pull smelt/demo-5m' 2>{}/errors",
                    SMELT_BINARY, home_.string());
    fs::create_directories(home_);
    EXPECT_NE(std::system(limited.c_str()), 0);
    const std::string errors(MappedFile(home_ / "errors").text());
    EXPECT_NE(errors.find("cannot write: File too large"), std::string::npos) << errors;
    for (const auto& entry : fs::recursive_directory_iterator(home_)) {
        EXPECT_FALSE(entry.path().string().ends_with(".smelt-partial")) << entry.path();
    }
}

}  // namespace
}  // namespace smelt
