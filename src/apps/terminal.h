// The terminal of `smelt run`: a line editor with history, dimmed text, and Ctrl-C that stops the answer and
// not the program.
#pragma once

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

namespace smelt {

bool is_terminal(std::FILE* stream);
// Standard input is a pipe or a file. Says so on stderr where nothing comes for a while: somebody may have
// left the other end open by mistake.
bool has_piped_input();
// Colours and dimming: only on a terminal, and not when the user said NO_COLOR or TERM=dumb.
bool wants_style(std::FILE* stream);

// While one lives, Ctrl-C sets a flag instead of ending the program.
class InterruptGuard {
 public:
    InterruptGuard();
    ~InterruptGuard();
    InterruptGuard(const InterruptGuard&) = delete;
    InterruptGuard& operator=(const InterruptGuard&) = delete;

    static bool take();  // was it pressed since the last call?
};

// Reads messages from the person at the terminal. History lives in $XDG_STATE_HOME/smelt/history.
class MessageReader {
 public:
    MessageReader();
    ~MessageReader();
    MessageReader(const MessageReader&) = delete;
    MessageReader& operator=(const MessageReader&) = delete;

    // One message: a line; or several, where a line ends in \, the message is between two """, or the lines
    // were pasted. nullopt at the end of input (Ctrl-D). Ctrl-C throws the message away and gives "".
    std::optional<std::string> read();

 private:
    std::optional<std::string> read_line(const char* prompt);

    std::filesystem::path history_;
    bool interrupted_ = false;
};

}  // namespace smelt
