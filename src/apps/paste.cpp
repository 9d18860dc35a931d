// UTF-8 in, code points out.
#include "apps/paste.h"

#include <string_view>
#include <utility>

namespace smelt {

namespace {

constexpr std::string_view begin_mark = "[200~", end_mark = "\x1b[201~";  // the first after an escape
constexpr int escape = 0x1b;
constexpr int line_break_picture = 0x2424, tab_picture = 0x2409;  // Unicode's pictures of the two
constexpr std::string_view line_break_text = "\xe2\x90\xa4", tab_text = "\xe2\x90\x89";

void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
        text.replace(at, from.size(), to);
    }
}

}  // namespace

// What is no UTF-8 becomes U+FFFD.
int PasteDecoder::character(int first) {
    if (first < 0x80) return first;
    const int n = first >= 0xf0 && first < 0xf8 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first >= 0xf5) return 0xfffd;
    int code = first & (0x3f >> n);
    for (int i = 0; i < n; ++i) {
        const int byte = read_();
        if (byte < 0) return -1;
        if ((byte & 0xc0) != 0x80) return 0xfffd;
        code = code << 6 | (byte & 0x3f);
    }
    return code;
}

// After an escape: false where it begins no paste; what was read of it is ready then.
bool PasteDecoder::take_escape() {
    std::string read;
    while (read.size() < begin_mark.size()) {
        const int byte = has_more_() ? read_() : -1;
        if (byte < 0) break;
        read += static_cast<char>(byte);
        if (!begin_mark.starts_with(read)) break;
    }
    if (read == begin_mark) return true;
    ready_.push_back(escape);
    for (const char c : read) ready_.push_back(static_cast<unsigned char>(c));
    return false;
}

void PasteDecoder::take_paste() {
    std::string bytes;
    while (!bytes.ends_with(end_mark)) {
        const int byte = read_();
        if (byte < 0) return ready_.push_back(-1);
        bytes += static_cast<char>(byte);
    }
    bytes.resize(bytes.size() - end_mark.size());
    replace_all(bytes, "\r\n", "\n");
    replace_all(bytes, "\r", "\n");
    while (bytes.ends_with('\n')) bytes.pop_back();  // the person sends the message
    any_ = true;
    size_t at = 0;
    const auto from_text = [&] { return at < bytes.size() ? static_cast<unsigned char>(bytes[at++]) : -1; };
    PasteDecoder text(from_text, [] { return true; });
    for (int c = 0; (c = from_text()) >= 0;) {
        c = text.character(c);
        if (c == '\n') {
            ready_.push_back(line_break_picture);
        } else if (c == '\t') {
            ready_.push_back(tab_picture);
        } else if (c >= 0x20 && c != 0x7f) {
            ready_.push_back(c);
        }
    }
}

int PasteDecoder::next() {
    while (ready_.empty()) {
        const int byte = read_();
        if (byte < 0) return -1;
        if (byte != escape) return character(byte);
        if (take_escape()) take_paste();
    }
    const int c = ready_.front();
    ready_.pop_front();
    return c;
}

std::string PasteDecoder::restored(const std::string& line) {
    std::string text = line;
    if (std::exchange(any_, false)) {
        replace_all(text, line_break_text, "\n");
        replace_all(text, tab_text, "\t");
    }
    return text;
}

}  // namespace smelt
