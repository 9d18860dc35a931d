// smelt serve as a process of its own: what it printed, how it ended, and under which limits it ran.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <map>

#include "server/client.h"

namespace smelt {

struct ProcessOptions {
    std::map<std::string, std::string> environment = {};  // beside the test's own
    std::map<int, rlim_t> limits = {};                    // RLIMIT_...
    std::string errors = "/dev/null";  // where stderr goes; "": to a file that errors() reads
};

class Process {
 public:
    explicit Process(std::vector<std::string> arguments, const ProcessOptions& o = {.errors = ""}) {
        std::array<int, 2> ends{};
        if (::pipe(ends.data()) != 0) throw std::runtime_error("pipe");
        errors_ = std::filesystem::temp_directory_path() /
                  fmt::format("smelt_serve_{}_{}", ::getpid(), static_cast<const void*>(this));
        arguments.insert(arguments.begin(), {SMELT_BINARY, "serve"});
        pid_ = ::fork();
        if (pid_ == 0) {
            ::dup2(ends[1], 1);
            ::close(ends[0]);
            ::dup2(::open(o.errors.empty() ? errors_.c_str() : o.errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC,
                          0600),
                   2);
            for (const auto& [name, value] : o.environment) ::setenv(name.c_str(), value.c_str(), 1);
            for (const auto& [what, n] : o.limits) {
                const rlimit limit{n, n};
                ::setrlimit(static_cast<__rlimit_resource>(what), &limit);
            }
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
        std::error_code ignored;
        std::filesystem::remove(errors_, ignored);
    }
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;

    void signal(int number) { ::kill(pid_, number); }
    // Exit code, 128 + a signal that killed it.
    int wait() {
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    bool runs() const { return pid_ > 0 && ::waitpid(pid_, nullptr, WNOHANG) == 0; }
    // User and system time so far.
    double cpu_seconds() const {
        std::ifstream in(fmt::format("/proc/{}/stat", pid_));
        std::string text((std::istreambuf_iterator<char>(in)), {});
        std::istringstream fields(text.substr(text.rfind(')') + 2));
        std::string skipped;
        for (int i = 0; i < 11; ++i) fields >> skipped;
        double user = 0, system = 0;
        fields >> user >> system;
        return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    }
    uint16_t port() const {
        return static_cast<uint16_t>(std::stoi(address_.substr(address_.rfind(':') + 1)));
    }
    const std::string& address() const { return address_; }
    std::string errors() const {
        std::ifstream in(errors_);
        return {std::istreambuf_iterator<char>(in), {}};
    }

 private:
    pid_t pid_ = -1;
    std::string address_;
    std::filesystem::path errors_;
};

}  // namespace smelt
