// libedit's readline interface, and a signal handler that only sets a flag.
#include "apps/terminal.h"

// readline.h needs <cstdio> before it
#include <editline/readline.h>
#include <langinfo.h>
#include <poll.h>
#include <signal.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <system_error>

#include "apps/paste.h"
#include "base/log.h"

namespace smelt {

namespace {

std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);

constexpr int history_lines = 1000;

std::filesystem::path history_path() {
    const char* state = std::getenv("XDG_STATE_HOME");
    const char* home = std::getenv("HOME");
    if (state != nullptr && *state != '\0') return std::filesystem::path(state) / "smelt" / "history";
    if (home != nullptr && *home != '\0') return std::filesystem::path(home) / ".local/state/smelt/history";
    return {};
}

// The terminal puts marks around what is pasted.
void mark_pastes(bool on) {
    std::fputs(on ? "\x1b[?2004h" : "\x1b[?2004l", stdout);
    std::fflush(stdout);
}

// False after Ctrl-C. The signal is let in while it waits and at no other time, or one that comes between a
// look at the flag and the wait would be lost.
bool wait_for_input() {
    sigset_t interrupt, before;
    sigemptyset(&interrupt);
    sigaddset(&interrupt, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &interrupt, &before);
    bool goes_on = true;
    while (true) {
        goes_on = !interrupted.load();
        if (!goes_on) break;
        fd_set input;
        FD_ZERO(&input);
        FD_SET(STDIN_FILENO, &input);
        if (::pselect(STDIN_FILENO + 1, &input, nullptr, nullptr, nullptr, &before) >= 0 || errno != EINTR)
            break;
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return goes_on;
}

PasteDecoder& pasted() {
    static PasteDecoder decoder(
        []() -> int {
            unsigned char byte = 0;
            while (wait_for_input()) {
                const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
                if (n == 1) return byte;
                if (n == 0 || errno != EINTR) return -1;
            }
            return -1;
        },
        [] {
            constexpr int between_bytes = 50;  // ms, of one sequence of a terminal
            pollfd p{STDIN_FILENO, POLLIN, 0};
            return ::poll(&p, 1, between_bytes) == 1;
        });
    return decoder;
}

bool knows_pastes() {
    return is_terminal(stdin) && is_terminal(stdout) && std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
}

}  // namespace

bool is_terminal(std::FILE* stream) {
    return ::isatty(::fileno(stream)) == 1;
}

bool has_piped_input() {
    constexpr int patience = 2000;  // ms
    struct stat info {};
    if (::fstat(STDIN_FILENO, &info) != 0) return false;
    if (S_ISREG(info.st_mode)) return true;
    if (!S_ISFIFO(info.st_mode)) return false;
    pollfd p{STDIN_FILENO, POLLIN, 0};
    if (::poll(&p, 1, patience) == 0) {
        spdlog::info("waiting for the text of the pipe at standard input; -p PROMPT does not read it");
    }
    return true;
}

bool wants_style(std::FILE* stream) {
    const char* no_color = std::getenv("NO_COLOR");
    const char* term = std::getenv("TERM");
    return is_terminal(stream) && (no_color == nullptr || *no_color == '\0') && term != nullptr &&
           std::string(term) != "dumb";
}

InterruptGuard::InterruptGuard() {
    struct sigaction action {};
    action.sa_handler = [](int) { interrupted.store(true); };
    // No SA_RESTART: a waiting read returns, so that the line editor can throw its line away.
    ::sigaction(SIGINT, &action, nullptr);
}

InterruptGuard::~InterruptGuard() {
    ::signal(SIGINT, SIG_DFL);
}

bool InterruptGuard::take() {
    return interrupted.exchange(false);
}

MessageReader::MessageReader() : history_(history_path()) {
    std::setlocale(LC_CTYPE, "");
    // Before libedit looks at it for the first time. It wants characters, not bytes.
    if (knows_pastes()) rl_getc_function = [](FILE*) { return pasted().next(); };
    using_history();
    stifle_history(history_lines);
    if (history_.empty()) return;
    std::error_code error;  // without a history file the editor works as well
    std::filesystem::create_directories(history_.parent_path(), error);
    read_history(history_.c_str());
}

MessageReader::~MessageReader() {
    if (!history_.empty()) write_history(history_.c_str());
}

std::optional<std::string> MessageReader::read_line(const char* prompt) {
    const bool pastes = knows_pastes();
    if (pastes) mark_pastes(true);
    char* line = ::readline(prompt);
    if (pastes) mark_pastes(false);
    interrupted_ = InterruptGuard::take();
    if (interrupted_) {
        std::free(line);
        std::fputs("\n", stdout);
        return "";
    }
    if (line == nullptr) return std::nullopt;
    std::string text = line;
    std::free(line);
    return pastes ? pasted().restored(text) : text;
}

std::optional<std::string> MessageReader::read() {
    constexpr std::string_view block = "\"\"\"";
    std::optional<std::string> line = read_line("> ");
    if (!line || interrupted_) return line;
    std::string message;
    if (line->starts_with(block)) {
        message = line->substr(block.size());
        while (!message.ends_with(block)) {
            line = read_line(". ");
            if (!line || interrupted_) return line;
            message += "\n" + *line;
        }
        message.resize(message.size() - block.size());
    } else {
        message = *line;
        while (message.ends_with('\\')) {
            line = read_line(". ");
            if (!line || interrupted_) return line;
            message.back() = '\n';
            message += *line;
        }
    }
    if (!message.empty()) add_history(message.c_str());
    return message;
}

}  // namespace smelt
