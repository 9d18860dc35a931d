// The handler writes the signal's number into a pipe, and a thread reads it.
#include "server/http/signals.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace smelt {

namespace {

using namespace std::chrono_literals;

constexpr int handled[] = {SIGINT, SIGTERM, SIGHUP};
int pipe_ends[2] = {-1, -1};  // all that a handler may use

void write_number(char number) {
    const int before = errno;
    (void)!::write(pipe_ends[1], &number, 1);
    errno = before;
}

void on_signal(int number) {
    write_number(static_cast<char>(number));
}

// 0: `timeout` passed; -1: no more are awaited.
int next_signal(std::chrono::milliseconds timeout) {
    pollfd p{pipe_ends[0], POLLIN, 0};
    const auto limit = timeout.count() < 0 ? -1 : static_cast<int>(timeout.count());
    while (true) {
        const int n = ::poll(&p, 1, limit);
        if (n == 0) return 0;
        char number = 0;
        if (n > 0 && ::read(pipe_ends[0], &number, 1) == 1) return number == 0 ? -1 : number;
        if (errno != EINTR) return -1;
    }
}

// What was ignored before, as SIGHUP under nohup, stays so.
void set_handler(int number, void (*handler)(int)) {
    if (std::signal(number, handler) == SIG_IGN) std::signal(number, SIG_IGN);
}

}  // namespace

Signals::Signals(ServerCore& core) : core_(core) {
    if (::pipe(pipe_ends) != 0) throw Error("the server cannot await signals: {}", std::strerror(errno));
    for (const int end : pipe_ends) ::fcntl(end, F_SETFD, FD_CLOEXEC);
    ::fcntl(pipe_ends[1], F_SETFL, O_NONBLOCK);
    std::signal(SIGPIPE, SIG_IGN);
    thread_ = std::thread([this] { run(); });
    for (const int number : handled) set_handler(number, on_signal);
}

Signals::~Signals() {
    for (const int number : handled) set_handler(number, SIG_DFL);
    write_number(0);
    thread_.join();
    for (int& end : pipe_ends) ::close(std::exchange(end, -1));
}

void Signals::run() {
    const int first = next_signal(-1ms);
    if (first < 0) return;
    asio::post(core_.io, [core = &core_] { core->begin_drain(); });
    // What is answered ends by itself, or is cut at the deadline and says farewell.
    const int second = next_signal(core_.options.limits.drain_timeout + 2 * farewell);
    if (second < 0) return;
    const int code = 128 + (second > 0 ? second : first);
    core_.exit_code = code;
    asio::post(core_.io, [core = &core_] { core->cut_connections(); });
    if (next_signal(farewell) < 0) return;
    std::_Exit(code);
}

}  // namespace smelt
