// Recursive descent; each deviation is accepted where it can mean one thing alone.
#include "chat/lenient_json.h"

#include "base/error.h"
#include "chat/answer_parser.h"

namespace smelt {

namespace {

constexpr int deepest = 64;
constexpr size_t max_values = 100'000;

void put_utf8(std::string& out, uint32_t c) {
    const auto byte = [&](uint32_t b) { out += static_cast<char>(b); };
    if (c < 0x80) return byte(c);
    if (c < 0x800) {
        byte(0xc0 | c >> 6);
    } else {
        if (c < 0x10000) {
            byte(0xe0 | c >> 12);
        } else {
            byte(0xf0 | c >> 18);
            byte(0x80 | (c >> 12 & 0x3f));
        }
        byte(0x80 | (c >> 6 & 0x3f));
    }
    byte(0x80 | (c & 0x3f));
}

class Reader {
 public:
    Reader(std::string_view text, bool may_miss_ends) : text_(text), may_miss_ends_(may_miss_ends) {}

    std::optional<Json> value() {
        skip_blank();
        if (++n_values_ > max_values || depth_ > deepest || !more()) return std::nullopt;
        const char c = text_[at_];
        if (c == '{') return object();
        if (c == '[') return array();
        if (c == '"' || c == '\'') return string();
        return word();
    }
    std::string_view rest() const { return text_.substr(at_); }

 private:
    bool more() const { return at_ < text_.size(); }
    void skip_blank() { at_ = std::min(text_.size(), text_.find_first_not_of(blank_chars, at_)); }
    bool take(char c) {
        skip_blank();
        if (!more() || text_[at_] != c) return false;
        ++at_;
        return true;
    }
    bool at_forgotten_end() const { return may_miss_ends_ && !more(); }

    std::optional<Json> object() {
        Json result = Json::object();
        ++at_;
        ++depth_;
        while (!take('}')) {
            if (at_forgotten_end()) break;
            const bool quoted = more() && (text_[at_] == '"' || text_[at_] == '\'');
            auto key = quoted ? string() : std::nullopt;
            if (!key || !take(':')) return std::nullopt;
            auto item = value();
            if (!item) return std::nullopt;
            result[key->get<std::string>()] = std::move(*item);
            if (!take(',') && !at_end_of('}')) return std::nullopt;
        }
        --depth_;
        return result;
    }

    std::optional<Json> array() {
        Json result = Json::array();
        ++at_;
        ++depth_;
        while (!take(']')) {
            if (at_forgotten_end()) break;
            auto item = value();
            if (!item) return std::nullopt;
            result.push_back(std::move(*item));
            if (!take(',') && !at_end_of(']')) return std::nullopt;
        }
        --depth_;
        return result;
    }

    bool at_end_of(char close) {
        skip_blank();
        return at_forgotten_end() || (more() && text_[at_] == close);
    }

    // A quote within a string, not escaped, is one that nothing follows which could follow the string.
    bool ends_string(char quote) const {
        if (text_[at_] != quote) return false;
        const size_t next = text_.find_first_not_of(blank_chars, at_ + 1);
        return next == std::string_view::npos ||
               std::string_view(",}]:").find(text_[next]) != std::string_view::npos;
    }

    std::optional<Json> string() {
        const char quote = text_[at_++];
        std::string out;
        for (; more(); ++at_) {
            if (ends_string(quote)) {
                ++at_;
                return Json(std::move(out));
            }
            if (text_[at_] != '\\' || at_ + 1 == text_.size()) {
                out += text_[at_];
            } else {
                ++at_;
                escape(out);
            }
        }
        return std::nullopt;
    }

    // At the character behind the backslash.
    void escape(std::string& out) {
        constexpr std::string_view from = "\"\\/'bfnrt", to = "\"\\/'\b\f\n\r\t";
        const char c = text_[at_];
        if (const size_t i = from.find(c); i != std::string_view::npos) {
            out += to[i];
        } else if (auto unit = c == 'u' ? hex(at_ + 1) : std::nullopt) {
            at_ += 4;
            const bool pair = *unit >= 0xd800 && *unit < 0xdc00 && text_.substr(at_ + 1).starts_with("\\u");
            if (const auto low = pair ? hex(at_ + 3) : std::nullopt; low && *low >= 0xdc00 && *low < 0xe000) {
                unit = 0x10000 + ((*unit - 0xd800) << 10) + (*low - 0xdc00);
                at_ += 6;
            }
            put_utf8(out, *unit >= 0xd800 && *unit < 0xe000 ? 0xfffd : *unit);
        } else {
            out += '\\';  // of a pattern or a path: no escape at all
            out += c;
        }
    }

    std::optional<uint32_t> hex(size_t at) const {
        if (at + 4 > text_.size()) return std::nullopt;
        uint32_t value = 0;
        for (const char c : text_.substr(at, 4)) {
            const char lower = static_cast<char>(c | 0x20);
            const bool digit = c >= '0' && c <= '9';
            if (!digit && (lower < 'a' || lower > 'f')) return std::nullopt;
            value = value * 16 + static_cast<uint32_t>(digit ? c - '0' : lower - 'a' + 10);
        }
        return value;
    }

    std::optional<Json> word() {
        const size_t end = std::min(text_.size(), text_.find_first_of(",:}]; \r\n\t", at_));
        const std::string_view word = text_.substr(at_, end - at_);
        at_ = end;
        if (word == "true" || word == "True") return true;
        if (word == "false" || word == "False") return false;
        if (word == "null" || word == "None") return Json();
        try {
            Json number = parse_json(word, "number");
            if (number.is_number()) return number;
        } catch (const Error&) {
        }
        return std::nullopt;
    }

    std::string_view text_;
    bool may_miss_ends_;
    size_t at_ = 0, n_values_ = 0;
    int depth_ = 0;
};

}  // namespace

std::optional<Json> take_lenient_json(std::string_view& text, bool may_miss_ends) {
    Reader reader(text, may_miss_ends);
    auto value = reader.value();
    if (value) text = reader.rest();
    return value;
}

}  // namespace smelt
