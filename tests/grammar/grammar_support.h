// Compiling in tests, where it must work (or the test ends) or must be refused; a small vocabulary.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "grammar/token_grammar.h"

namespace smelt {

inline Grammar compiled(const GrammarSpec& spec, const GrammarOptions& options = {}) {
    const auto result = compile_grammar(spec, options);
    if (const auto* g = std::get_if<Grammar>(&result)) return *g;
    throw std::runtime_error(std::get<GrammarError>(result).message());
}

inline GrammarError refused(const GrammarSpec& spec) {
    const auto result = compile_grammar(spec);
    if (const auto* e = std::get_if<GrammarError>(&result)) return *e;
    ADD_FAILURE() << "compiled: " << spec.value << to_string(spec.schema);
    return {};
}

// All bytes, and texts that JSON and its strings are cut into.
class Vocabulary {
 public:
    Vocabulary() {
        for (int b = 0; b < 256; ++b) add(std::string(1, static_cast<char>(b)));
        for (const char* t :
             {"{\"",     "\":",         "\", \"",       "},",       "}}",   "]]",       "[[",       ": ",
              ", ",      "\n",          "\n  ",         "    ",     "true", "false",    "null",     "tr",
              "ue",      "\"a",         "a\"",          "\"name\"", "name", "me\": ",   "hello",    " world",
              "héllo",   "é",           "\xc3\xa9\xc3", "\xa9",     "😀",    "\xf0\x9f", "\x98\x80", "\\u",
              "\\ud83d", "\\n",         "\\\"",         "12",       "3.5",  "-1",       "e+",       "0.",
              "999",     "aaaa",        "aaaaaaaaaaaa", "a\",\"b",  "\"}",  "\"]",      "abc\"}",   "<tool",
              "_call>",  "<tool_call>", "x\ny",         "ab",       "ab"}) {
            add(t);
        }
        add("<|end|>", true);
        add("");
        add("\xff\xfe");
    }
    std::vector<TokenText> texts() const {
        std::vector<TokenText> result;
        for (size_t i = 0; i < tokens_.size(); ++i) result.push_back({tokens_[i], control_[i]});
        return result;
    }
    const std::string& operator[](int32_t id) const { return tokens_[static_cast<size_t>(id)]; }
    int32_t size() const { return static_cast<int32_t>(tokens_.size()); }

 private:
    void add(std::string t, bool control = false) {
        tokens_.push_back(std::move(t));
        control_.push_back(control);
    }
    std::vector<std::string> tokens_;
    std::vector<bool> control_;
};

inline bool contains(std::span<const uint64_t> bits, int32_t id) {
    return ((bits[static_cast<size_t>(id) / 64] >> (id % 64)) & 1) != 0;
}

}  // namespace smelt
