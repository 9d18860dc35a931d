// libedit's readline interface, and a signal handler that only sets a flag.
#include "apps/terminal.h"

// readline.h needs <cstdio> before it
#include <editline/readline.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <clocale>
#include <cstdlib>
#include <system_error>

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

}  // namespace

bool is_terminal(std::FILE* stream) {
    return ::isatty(::fileno(stream)) == 1;
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
    char* line = ::readline(prompt);
    interrupted_ = InterruptGuard::take();
    if (interrupted_) {
        std::free(line);
        return "";
    }
    if (line == nullptr) return std::nullopt;
    std::string text = line;
    std::free(line);
    return text;
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
