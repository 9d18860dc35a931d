// Any text as a schema, a pattern or a grammar; the first byte picks it. It is refused with a reason or
// compiled, and then any state that is reached leads to an end.
#include <cstdint>

#include "base/error.h"
#include "grammar/token_grammar.h"

namespace smelt {

namespace {

std::shared_ptr<const TokenTrie> all_bytes() {
    static const std::vector<std::string> bytes = [] {
        std::vector<std::string> all;
        for (int b = 0; b < 256; ++b) all.emplace_back(1, static_cast<char>(b));
        return all;
    }();
    std::vector<TokenText> tokens;
    for (const std::string& b : bytes) tokens.push_back({.bytes = b});
    return make_token_trie(tokens);
}

GrammarSpec spec_of(std::string_view text, uint8_t choice) {
    if (choice % 3 == 1) return GrammarSpec::regex(std::string(text));
    if (choice % 3 == 2) return GrammarSpec::gbnf(std::string(text));
    return GrammarSpec::json_schema(parse_json(text, "fuzz"));
}

void run(std::string_view text, uint8_t choice) {
    static const auto trie = all_bytes();
    const GrammarLimits limits{
        .max_bytes = 4096, .max_states = 5000, .max_edges = 50'000, .max_combinations = 200};
    const auto compiled = compile_grammar(spec_of(text, choice), {.limits = limits});
    if (const auto* error = std::get_if<GrammarError>(&compiled)) {
        CHECK(!error->text.empty());
        return;
    }
    const auto grammar =
        std::get<std::shared_ptr<TokenGrammar>>(TokenGrammar::make(std::get<Grammar>(compiled), trie));
    GrammarMatcher matcher(grammar);
    std::string answer;
    uint32_t random = choice;
    for (int step = 0; step < 24; ++step) {
        const auto span = matcher.allowed();
        if (span.empty()) return;  // too much work
        const std::vector<uint64_t> bits(span.begin(), span.end());
        std::vector<int32_t> allowed;
        for (int32_t id = 0; id < 256; ++id) {
            if (((bits[static_cast<size_t>(id) / 64] >> (id % 64)) & 1) != 0) allowed.push_back(id);
        }
        CHECK(!allowed.empty() || matcher.may_end(), "a dead end");
        CHECK(allowed.empty() == matcher.must_end());
        CHECK(matcher.may_end() == accepts(std::get<Grammar>(compiled), answer));
        if (allowed.empty()) return;
        random = random * 1664525 + 1013904223;
        const int32_t id = allowed[(random >> 16) % allowed.size()];
        if (!matcher.accept(id)) return;  // too much work
        answer += static_cast<char>(id);
    }
}

}  // namespace

}  // namespace smelt

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    try {
        smelt::run({reinterpret_cast<const char*>(data + 1), size - 1}, data[0]);
    } catch (const smelt::Error&) {
        // not JSON
    }
    return 0;
}
