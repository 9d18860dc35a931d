// Bracketed paste: a terminal puts marks around what is pasted, and its line breaks then belong to the
// message instead of sending it. Knows bytes and characters, no terminal.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>

namespace smelt {

class PasteDecoder {
 public:
    // `read` gives a byte of the terminal or -1; `has_more` says whether one follows at once.
    PasteDecoder(std::function<int()> read, std::function<bool()> has_more)
        : read_(std::move(read)), has_more_(std::move(has_more)) {}

    // The next character for a line editor, -1 at the end. Line breaks and tabs of a paste are stand-ins that
    // the editor can show.
    int next();
    // The line that the editor gave back, with line breaks and tabs in place of the stand-ins.
    std::string restored(const std::string& line);

 private:
    int character(int first);
    bool take_escape();
    void take_paste();

    std::function<int()> read_;
    std::function<bool()> has_more_;
    std::deque<int> ready_;
    bool any_ = false;  // of the line so far something was pasted
};

}  // namespace smelt
