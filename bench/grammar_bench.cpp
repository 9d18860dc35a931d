// Microseconds of processor time to tell which tokens may come next, for a vocabulary of 151,669 tokens
// (151,936 rows of logits): an answer is made by a model that draws evenly from what is allowed, or writes
// long strings. "first" answers know nothing, "later" ones find what others computed for the same grammar.
// usage: grammar_bench TOKENIZER.JSON
#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <random>

#include "grammar/token_grammar.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

// Of this thread alone, so that what else runs on the machine does not count.
double cpu_micros() {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3;
}

double micros(double since) {
    return cpu_micros() - since;
}

struct Case {
    const char* name;
    GrammarSpec spec;
};

std::vector<Case> cases() {
    const auto schema = [](const char* text) { return GrammarSpec::json_schema(Json::parse(text)); };
    return {
        {"json_object", GrammarSpec::json_object()},
        {"free string", schema(R"({"type":"string"})")},
        {"string of 100 to 400 characters", schema(R"({"type":"string","minLength":100,"maxLength":400})")},
        {"string with a pattern",
         schema(R"({"type":"string","pattern":"^([a-z]+ )*[a-z]+$","maxLength":300})")},
        {"thinking, then an object",
         GrammarSpec::sequence({GrammarSpec::text_until({"</think>"}), GrammarSpec::json_object()})},
        {"person",
         schema(
             R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},
            "mail":{"type":"string","format":"email"},"tags":{"type":"array","items":{"type":"string","maxLength":20},"maxItems":8},
            "kind":{"enum":["adult","child"]},"score":{"type":"number","minimum":0,"maximum":1},
            "friends":{"type":"array","items":{"$ref":"#"}}},"required":["name","age","tags"],"additionalProperties":false})")},
        {"60 optional members",
         [] {
             Json names;
             for (int i = 0; i < 60; ++i)
                 names[fmt::format("property_{}", i)] = {{"type", i % 2 == 0 ? "string" : "integer"}};
             return GrammarSpec::json_schema({{"properties", names}});
         }()},
        {"arithmetic (GBNF)",
         GrammarSpec::gbnf("root ::= e\ne ::= t ([-+*/] t)*\nt ::= [0-9]+ | [a-z]+ | \"(\" e \")\"")},
    };
}

// Times of all steps of an answer.
std::vector<double> answer(const std::shared_ptr<TokenGrammar>& grammar, const Tokenizer& tokenizer,
                           uint32_t seed) {
    std::vector<double> times;
    std::mt19937 rng(seed);
    GrammarMatcher matcher(grammar);
    const std::vector<int32_t> words =
        tokenizer.encode("the quick brown fox jumps over the lazy dog and nobody knows why it does so ");
    for (int step = 0; step < 200 && !matcher.must_end(); ++step) {
        const double begin = cpu_micros();
        const auto bits = matcher.allowed();
        double time = micros(begin);
        int32_t id = words[static_cast<size_t>(step) % words.size()];
        const auto may = [&](int32_t i) {
            return ((bits[static_cast<size_t>(i) / 64] >> (i % 64)) & 1) != 0;
        };
        // Strings are hard as long as they last: words as long as they may come, mostly.
        if (!may(id) || rng() % 16 == 0) {
            std::vector<int32_t> all;
            for (int32_t i = 0; i < tokenizer.n_tokens(); ++i) {
                if (may(i)) all.push_back(i);
            }
            if (all.empty()) break;
            id = all[rng() % all.size()];
        }
        const double accept = cpu_micros();
        matcher.accept(id);
        times.push_back(time + micros(accept));
    }
    return times;
}

void print(const char* name, const char* which, std::vector<double> times) {
    double sum = 0;
    for (const double t : times) sum += t;
    std::ranges::sort(times);
    const size_t n = times.size();
    fmt::print("{:<34} {:<6} mean {:7.1f}  median {:7.1f}  99 % {:8.1f}  largest {:9.1f} us  ({} tokens)\n",
               name, which, sum / static_cast<double>(n), times[n / 2], times[n * 99 / 100], times.back(), n);
}

void run(const char* path) {
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(path));
    std::vector<TokenText> tokens;
    for (int32_t id = 0; id < tokenizer.n_tokens(); ++id)
        tokens.push_back({tokenizer.token_bytes(id), tokenizer.is_special(id)});
    double begin = cpu_micros();
    const auto trie = make_token_trie(tokens);
    fmt::print("{} tokens; trie in {:.1f} ms\n", tokens.size(), micros(begin) / 1000);
    for (const Case& c : cases()) {
        begin = cpu_micros();
        const auto compiled = compile_grammar(c.spec);
        const double compile_ms = micros(begin) / 1000;
        const auto grammar =
            std::get<std::shared_ptr<TokenGrammar>>(TokenGrammar::make(std::get<Grammar>(compiled), trie));
        fmt::print("{:<34} compiled in {:.2f} ms\n", c.name, compile_ms);
        print(c.name, "first", answer(grammar, tokenizer, 1));
        std::vector<double> later;
        for (uint32_t seed = 2; seed < 12; ++seed) {
            const auto times = answer(grammar, tokenizer, seed);
            later.insert(later.end(), times.begin(), times.end());
        }
        print(c.name, "later", std::move(later));
    }
}

}  // namespace

}  // namespace smelt

int main(int argc, char** argv) {
    if (argc != 2) return fmt::print(stderr, "usage: grammar_bench TOKENIZER.JSON\n"), 2;
    smelt::run(argv[1]);
}
