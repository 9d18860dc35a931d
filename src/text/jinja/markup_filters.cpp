// Filters that know lines and tags: wordwrap, striptags, xmlattr; the table of those beside them.
#include <algorithm>

#include "text/jinja/builtins.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/ops.h"
#include "text/jinja/unicode.h"

namespace smelt::jinja {

namespace {

using In = Interpreter;
using Args = CallArguments;

// --- wordwrap: Python's textwrap, which breaks words at hyphens where letters are on both sides. ---

bool is_word(char32_t c) {
    return c == '_' || is_alpha(c) || is_numeric(c);
}
bool is_letter(char32_t c) {
    return is_word(c) && !is_decimal(c);
}
bool is_word_or_mark(char32_t c) {
    return is_word(c) || std::u32string_view(U"!\"'&.,?").find(c) != std::u32string_view::npos;
}
bool is_blank(char32_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

class Words {
 public:
    explicit Words(std::u32string_view line) : line_(line) {}

    // Blanks, and words that end where a line may be broken.
    std::vector<std::u32string_view> chunks(bool break_on_hyphens) const {
        std::vector<std::u32string_view> all;
        for (size_t at = 0; at < line_.size();) {
            size_t end = at + 1;
            if (is_blank(line_[at])) {
                while (end < line_.size() && is_blank(line_[end])) ++end;
            } else if (const size_t dash = break_on_hyphens ? dash_end(at) : 0; dash > 0) {
                end = dash;
            } else {
                while (!may_break(at, end, break_on_hyphens)) ++end;
            }
            all.push_back(line_.substr(at, end - at));
            at = end;
        }
        return all;
    }

 private:
    char32_t at(size_t i) const { return i < line_.size() ? line_[i] : U' '; }

    // Behind two or more hyphens that stand between words; 0: there are none at i.
    size_t dash_end(size_t i) const {
        if (i == 0 || !is_word_or_mark(line_[i - 1])) return 0;
        size_t end = i;
        while (at(end) == '-') ++end;
        return end >= i + 2 && is_word(at(end)) ? end : 0;
    }
    bool may_break(size_t begin, size_t i, bool break_on_hyphens) const {
        if (i == line_.size() || is_blank(line_[i])) return true;
        if (!break_on_hyphens) return false;
        if (dash_end(i) > 0) return true;
        if (line_[i - 1] != '-' || i < begin + 2) return false;
        const bool letters = i >= 3 && is_letter(line_[i - 3]) && is_letter(line_[i - 2]);
        const bool short_one =
            i >= 4 && is_letter(line_[i - 4]) && line_[i - 3] == '-' && is_word_or_mark(line_[i - 2]);
        const bool goes_on =
            is_letter(at(i)) && (is_letter(at(i + 1)) || (at(i + 1) == '-' && is_letter(at(i + 2))));
        return (letters || short_one) && goes_on;
    }

    std::u32string_view line_;
};

bool is_empty_text(std::u32string_view chunk) {
    return std::ranges::all_of(chunk, is_space);
}

struct Wrap {
    size_t width;
    bool break_long_words, break_on_hyphens;

    // So much of a chunk that is longer than a line goes into the room that is left.
    size_t part_of_long(std::u32string_view chunk, size_t room) const {
        if (!break_on_hyphens || chunk.size() <= room) return room;
        const size_t hyphen = room == 0 ? std::u32string_view::npos : chunk.rfind('-', room - 1);
        if (hyphen == std::u32string_view::npos || hyphen == 0) return room;
        const auto before = chunk.substr(0, hyphen);
        return before.find_first_not_of('-') == std::u32string_view::npos ? room : hyphen + 1;
    }

    std::vector<std::u32string> lines_of(std::u32string_view text) const {
        std::vector<std::u32string_view> chunks = Words(text).chunks(break_on_hyphens);
        std::ranges::reverse(chunks);
        std::vector<std::u32string> lines;
        while (!chunks.empty()) {
            std::vector<std::u32string_view> line;
            size_t n = 0;
            if (!lines.empty() && is_empty_text(chunks.back())) chunks.pop_back();
            while (!chunks.empty() && n + chunks.back().size() <= width) {
                n += chunks.back().size();
                line.push_back(chunks.back());
                chunks.pop_back();
            }
            if (!chunks.empty() && chunks.back().size() > width) {
                if (break_long_words) {
                    const size_t end = part_of_long(chunks.back(), width - n);
                    line.push_back(chunks.back().substr(0, end));
                    chunks.back().remove_prefix(end);
                } else if (line.empty()) {
                    line.push_back(chunks.back());
                    chunks.pop_back();
                }
            }
            if (!line.empty() && is_empty_text(line.back())) line.pop_back();
            if (line.empty()) continue;
            lines.emplace_back();
            for (const auto chunk : line) lines.back() += chunk;
        }
        return lines;
    }
};

std::u32string code_points(std::string_view text) {
    std::u32string points;
    for (size_t at = 0; at < text.size();) points += next_char(text, at);
    return points;
}

Value wordwrap(In& in, const Value& self, Args& args) {
    Heap& heap = in.heap();
    const auto flag = [&](const Value& v) { return v.is(Kind::missing) || truth(heap, v); };
    const int64_t width = args.positional[0].is(Kind::missing) ? 79 : expect_integer(args.positional[0]);
    if (width <= 0) raise("ValueError", fmt::format("invalid width {} (must be > 0)", width));
    const Wrap wrap{static_cast<size_t>(width), flag(args.positional[1]), flag(args.positional[3])};
    const bool has_join = !args.positional[2].is(Kind::missing) && !args.positional[2].is(Kind::none);
    const std::string join = has_join ? to_text(heap, args.positional[2]) : "\n";

    const std::string text = to_text(heap, self);
    heap.touch(text.size() * 24);
    heap.room_for(text.size() * 8);
    Args none;
    const Value lines =
        in.call(*find_method(Kind::string, "splitlines"), make_string(heap, std::string(text)), none);
    StringBuilder out(heap);
    bool is_first = true;
    for (const Value& line : lines.as<List>().items) {
        std::vector<std::u32string> wrapped = wrap.lines_of(code_points(text_of(line)));
        if (wrapped.empty()) wrapped.emplace_back();
        for (const std::u32string& w : wrapped) {
            if (!std::exchange(is_first, false)) out.append(join);
            std::string bytes;
            for (const char32_t c : w) append_char(bytes, c);
            out.append(bytes);
        }
    }
    return make_string(heap, out.take());
}

// --- Tags and attributes. ---

// The named characters of HTML that escape() writes, and the usual ones beside them; a number, too. Null: it
// stays as it is. Others that HTML knows are refused by name, not left.
std::string character_of(std::string_view name) {
    constexpr std::pair<std::string_view, std::string_view> named[] = {
        {"amp", "&"}, {"lt", "<"}, {"gt", ">"}, {"quot", "\""}, {"apos", "'"}, {"nbsp", "\xc2\xa0"}};
    for (const auto& [n, c] : named) {
        if (n == name) return std::string(c);
    }
    const bool hex = name.starts_with("#x") || name.starts_with("#X");
    const std::string_view digits = name.substr(hex ? 2 : 1);
    if (!name.starts_with('#') || digits.empty() || digits.size() > 7) {
        raise("TemplateRuntimeError", fmt::format("striptags: the character &{}; is not known", name));
    }
    char32_t c = 0;
    for (const char d : digits) {
        const int value = d >= '0' && d <= '9' ? d - '0' : hex ? (d | 32) - 'a' + 10 : -1;
        if (value < 0 || value > 15)
            raise("TemplateRuntimeError", fmt::format("striptags: the character &{}; is not known", name));
        c = c * (hex ? 16 : 10) + static_cast<char32_t>(value);
    }
    if (c < 32 || (c >= 0x7f && c < 0xa0) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
        raise("TemplateRuntimeError", fmt::format("striptags: the character &{}; is not known", name));
    std::string bytes;
    append_char(bytes, c);
    return bytes;
}

std::string without(std::string text, std::string_view open, std::string_view close) {
    std::string out;
    size_t at = 0;
    while (true) {
        const size_t start = text.find(open, at);
        const size_t end = start == std::string::npos ? start : text.find(close, start);
        if (end == std::string::npos) break;
        out.append(text, at, start - at);
        at = end + close.size();
    }
    return out + text.substr(at);
}

Value striptags(In& in, const Value& self, Args&) {
    Heap& heap = in.heap();
    std::string text = to_text(heap, self);
    heap.touch(text.size() * 16);
    heap.room_for(text.size() * 3);
    // Again while something goes: what is left of two tags may be one.
    for (const auto& [open, close] : {std::pair{"<!--", "-->"}, std::pair{"<", ">"}}) {
        for (size_t before = text.size() + 1; text.size() < before;) {
            before = text.size();
            heap.touch(before);
            text = without(std::move(text), open, close);
        }
    }
    std::string out;
    bool between = false;
    for (size_t at = 0; at < text.size();) {
        const size_t begin = at;
        if (is_space(next_char(text, at))) {
            between = !out.empty();
            continue;
        }
        if (std::exchange(between, false)) out += ' ';
        const size_t end = text[begin] == '&' ? text.find(';', begin) : std::string::npos;
        const size_t n = end - begin;
        const bool is_name =
            end != std::string::npos && n > 1 && n < 33 &&
            std::all_of(text.begin() + static_cast<std::ptrdiff_t>(begin) + 1,
                        text.begin() + static_cast<std::ptrdiff_t>(end), [](char c) {
                            return c == '#' || (c >= '0' && c <= '9') || ((c | 32) >= 'a' && (c | 32) <= 'z');
                        });
        if (is_name) {
            out += character_of(std::string_view(text).substr(begin + 1, n - 1));
            at = end + 1;
        } else {
            out.append(text, begin, at - begin);
        }
    }
    return make_string(heap, std::move(out));
}

Value xmlattr(In& in, const Value& self, Args& args) {
    Heap& heap = in.heap();
    if (!self.is(Kind::dict)) raise("AttributeError", "xmlattr: expected a dict");
    const bool space = args.positional[0].is(Kind::missing) || truth(heap, args.positional[0]);
    Args none;
    StringBuilder out(heap);
    for (const Value& pair : iterate(heap, in.call(*find_method(Kind::dict, "items"), self, none))) {
        const auto parts = iterate(heap, pair);
        if (parts[1].is(Kind::none) || parts[1].is(Kind::undefined)) continue;
        const std::string key = to_text(heap, parts[0]);
        if (key.find_first_of(" \t\n\r\f\v/>=") != std::string::npos) {
            raise("ValueError", fmt::format("Invalid character in attribute name: {}", text_repr(key)));
        }
        if (out.size() > 0 || space) out.append(' ');
        out.append(escape_html(heap, key));
        out.append("=\"");
        const bool markup = parts[1].is(Kind::string) && parts[1].as<String>().markup;
        const std::string value = to_text(heap, parts[1]);
        out.append(markup ? value : escape_html(heap, value));
        out.append('"');
    }
    return make_string(heap, out.take());
}

constexpr Builtin table[] = {
    {"wordwrap", "width? break_long_words? wrapstring? break_on_hyphens?", wordwrap},
    {"striptags", "", striptags},
    {"xmlattr", "autospace?", xmlattr},
    {"urlize", "trim_url_limit? nofollow? target? rel? extra_schemes?", urlize},
    {"pprint", "", pretty_print},
};

}  // namespace

std::span<const Builtin> markup_filters() {
    return table;
}

}  // namespace smelt::jinja
