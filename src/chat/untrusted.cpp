// Walks values and texts.
#include "chat/untrusted.h"

#include "chat/answer_parser.h"

namespace smelt {

Untrusted::Untrusted(const Tokenizer& tokenizer, const Json& variables) : tokenizer_(tokenizer) {
    const std::string all = to_string(variables);
    // Unicode's characters for internal use.
    for (char c = '\x90'; c <= '\xaf'; ++c) {
        mark_ = {'\xef', '\xb7', c};
        if (all.find(mark_) == std::string::npos) return;
    }
}

Json Untrusted::broken(const Json& value) const {
    if (value.is_string()) return broken_text(value.get_ref<const std::string&>());
    if (!value.is_structured()) return value;
    Json result = value.is_array() ? Json::array() : Json::object();
    for (const auto& [key, item] : value.items()) {
        if (value.is_array()) {
            result.push_back(broken(item));
        } else {
            result[broken_text(key)] = broken(item);
        }
    }
    return result;
}

std::vector<size_t> Untrusted::take_marks(std::string& text) const {
    std::vector<size_t> places;
    std::string clean;
    size_t begin = 0;
    for (size_t at; (at = text.find(mark_, begin)) != std::string::npos; begin = at + mark_.size()) {
        clean.append(text, begin, at - begin);
        places.push_back(clean.size());
    }
    if (!places.empty()) text = clean.append(text, begin);
    return places;
}

// Marks of thinking and calls stay whole, which templates look for in earlier answers.
std::string Untrusted::broken_text(std::string_view text) const {
    constexpr size_t longest_mark = 16;
    std::string result;
    size_t done = 0;
    for (size_t i = 0; (i = text.find('<', i)) != std::string_view::npos; ++i) {
        const std::string_view near = text.substr(i, longest_mark);
        const std::string_view mark = near.substr(0, near.find('>') + 1);
        if (!is_text_mark(mark)) continue;
        result.append(tokenizer_.break_special(text.substr(done, i - done), mark_)).append(mark);
        done = i + mark.size();
    }
    return result + tokenizer_.break_special(text.substr(done), mark_);
}

}  // namespace smelt
