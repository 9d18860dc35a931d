// name: value, name { fields }, name: [values]; commas and semicolons between fields may be there or not.
#include "triton/text_protobuf.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "base/error.h"
#include "base/number.h"

namespace smelt {

namespace {

constexpr std::string_view lists[] = {"input",
                                      "output",
                                      "dims",
                                      "shape",
                                      "instance_group",
                                      "gpus",
                                      "profile",
                                      "host_policy",
                                      "secondary_devices",
                                      "cpu_execution_accelerator",
                                      "gpu_execution_accelerator",
                                      "batch_input",
                                      "batch_output",
                                      "preferred_batch_size",
                                      "versions",
                                      "model_warmup",
                                      "agents",
                                      "control_input",
                                      "state"};
constexpr std::string_view maps[] = {"parameters", "metric_tags", "cc_model_filenames"};

class Parser {
 public:
    Parser(std::string_view text, const std::string& source) : text_(text), source_(source) {}

    Json read_all() { return read_message('\0', 0); }

 private:
    [[noreturn]] void wrong(std::string_view expected) const {
        const auto line = 1 + std::ranges::count(text_.substr(0, std::min(at_, text_.size())), '\n');
        const std::string found = at_ >= text_.size() ? "the end"
                                  : static_cast<unsigned char>(text_[at_]) < ' '
                                      ? "a control character"
                                      : fmt::format("'{}'", text_[at_]);
        throw Error("{}:{}: expected {}, found {}", source_, line, expected, found);
    }

    void skip_space() {
        while (at_ < text_.size()) {
            if (text_[at_] == '#') {
                at_ = std::min(text_.find('\n', at_), text_.size());
            } else if (std::isspace(static_cast<unsigned char>(text_[at_])) != 0) {
                ++at_;
            } else {
                return;
            }
        }
    }
    char peek() {
        skip_space();
        return at_ < text_.size() ? text_[at_] : '\0';
    }
    bool take(char c) {
        if (peek() != c || at_ >= text_.size()) return false;
        ++at_;
        return true;
    }

    std::string_view read_word(std::string_view expected) {
        skip_space();
        const size_t start = at_;
        const auto belongs = [](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '.' || c == '-' ||
                   c == '+';
        };
        while (at_ < text_.size() && belongs(text_[at_])) ++at_;
        if (at_ == start) wrong(expected);
        return text_.substr(start, at_ - start);
    }

    Json read_message(char end, int depth) {
        constexpr int max_depth = 32;
        if (depth > max_depth) wrong("fewer braces inside of each other");
        Json message = Json::object();
        while (true) {
            if (end == '\0' && peek() == '\0' && at_ >= text_.size()) return message;
            if (end != '\0' && take(end)) return message;
            read_field(message, depth);
            if (!take(',')) take(';');
        }
    }

    void read_field(Json& message, int depth) {
        const std::string name(read_word("the name of a field"));
        const bool colon = take(':');
        const auto read = [&]() -> Json {
            if (take('{')) return read_message('}', depth + 1);
            if (take('<')) return read_message('>', depth + 1);
            if (!colon) wrong("':' or '{'");
            return read_scalar();
        };
        Json values = Json::array();
        const bool in_brackets = take('[');
        if (in_brackets && !take(']')) {
            do {
                values.push_back(peek() == '{' || peek() == '<' || colon ? read() : Json());
                if (values.back().is_null()) wrong("'{'");
            } while (take(','));
            if (!take(']')) wrong("',' or ']'");
        } else if (!in_brackets) {
            values.push_back(read());
        }
        add(message, name, std::move(values));
    }

    void add(Json& message, const std::string& name, Json values) {
        if (std::ranges::find(maps, name) != std::end(maps)) {
            Json& map = message[name];
            if (map.is_null()) map = Json::object();
            for (const Json& entry : values) {
                if (!entry.is_object() || !entry.contains("key") || !entry["key"].is_string())
                    wrong(fmt::format("{} as entries of key and value", name));
                const std::string key = entry["key"];
                if (map.contains(key)) wrong(fmt::format("{} \"{}\" once", name, key));
                map[key] = entry.value("value", Json());
            }
            return;
        }
        if (std::ranges::find(lists, name) != std::end(lists)) {
            Json& list = message[name];
            if (list.is_null()) list = Json::array();
            for (Json& v : values) list.push_back(std::move(v));
            return;
        }
        if (values.size() != 1 || message.contains(name)) wrong(fmt::format("{} once", name));
        message[name] = std::move(values[0]);
    }

    Json read_scalar() {
        const char c = peek();
        if (c == '"' || c == '\'') {
            std::string text;
            while (peek() == '"' || peek() == '\'') text += read_string();  // neighbours are one
            return text;
        }
        const std::string_view word = read_word("a value");
        if (word == "true" || word == "false") return word == "true";
        if (const auto n = parse_integer<int64_t>(word)) return *n;
        if (const auto x = parse_real(word)) return *x;
        if (std::isalpha(static_cast<unsigned char>(word.front())) == 0) wrong("a number before this");
        return std::string(word);  // of an enumeration
    }

    std::string read_string() {
        const char quote = text_[at_++];
        std::string text;
        while (true) {
            if (at_ >= text_.size() || text_[at_] == '\n') wrong("the end of a string");
            const char c = text_[at_++];
            if (c == quote) return text;
            text += c == '\\' ? read_escape() : c;
        }
    }
    char read_escape() {
        constexpr std::array<std::pair<char, char>, 7> escapes = {
            {{'n', '\n'}, {'t', '\t'}, {'r', '\r'}, {'\\', '\\'}, {'"', '"'}, {'\'', '\''}, {'?', '?'}}};
        if (at_ >= text_.size()) wrong("an escape");
        for (const auto& [name, meaning] : escapes) {
            if (text_[at_] != name) continue;
            ++at_;
            return meaning;
        }
        // \x41 and \101
        const bool hex = text_[at_] == 'x';
        if (hex) ++at_;
        size_t n = 0;
        while (n < (hex ? 2 : 3) && at_ + n < text_.size() &&
               (hex ? std::isxdigit(static_cast<unsigned char>(text_[at_ + n])) != 0
                    : text_[at_ + n] >= '0' && text_[at_ + n] <= '7')) {
            ++n;
        }
        const auto code = parse_integer<unsigned>(text_.substr(at_, n), hex ? 16 : 8);
        if (!code || *code > 255) wrong("a character's escape");
        at_ += n;
        return static_cast<char>(*code);
    }

    std::string_view text_;
    const std::string& source_;
    size_t at_ = 0;
};

}  // namespace

Json parse_text_protobuf(std::string_view text, const std::string& source) {
    constexpr size_t most = size_t{1} << 20;
    if (text.size() > most) throw Error("{}: expected at most {} bytes, found {}", source, most, text.size());
    return Parser(text, source).read_all();
}

std::string text_protobuf_string(std::string_view text) {
    std::string quoted = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            quoted += '\\';
            quoted += c;
        } else if (static_cast<unsigned char>(c) < ' ') {
            quoted += fmt::format("\\{:03o}", static_cast<unsigned char>(c));
        } else {
            quoted += c;
        }
    }
    return quoted + '"';
}

}  // namespace smelt
