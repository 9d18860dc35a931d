// Microseconds of processor time to tell which tokens may come next, for a vocabulary of 151,669 tokens
// (151,936 rows of logits), in answers of a model that writes words where they may come and else draws evenly
// from what is allowed. "first": nothing is known, of this grammar or another; "later": others answered under
// the same grammar. "bind" is what compiling and preparing took before, "again" the same for a form that the
// cache has, "holds" what it keeps there after all these answers. usage: grammar_bench TOKENIZER.JSON
#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <random>

#include "grammar/grammar_cache.h"
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
    const auto members = [](int n, const char* required) {
        Json names = Json::object();
        for (int i = 0; i < n; ++i)
            names[fmt::format("property_{}", i)] = {{"type", i % 2 == 0 ? "string" : "integer"}};
        Json s = {{"type", "object"}, {"properties", names}};
        if (required != nullptr) s["required"] = Json::array({required});
        return GrammarSpec::json_schema(s);
    };
    Json words = Json::array();
    for (int i = 0; i < 500; ++i) words.push_back(fmt::format("{} {}", i % 2 == 0 ? "the quick" : "any", i));
    return {
        {"json_object", GrammarSpec::json_object()},
        {"string", schema(R"({"type":"string"})")},
        {"string, 100 to 400 characters", schema(R"({"type":"string","minLength":100,"maxLength":400})")},
        {"string, pattern, maxLength 300",
         schema(R"({"type":"string","pattern":"^([a-z]+ )*[a-z]+$","maxLength":300})")},
        {"string, pattern, 50 to 2000",
         schema(R"({"type":"string","pattern":"^[^<>]*$","minLength":50,"maxLength":2000})")},
        {"formats",
         schema(
             R"({"type":"array","minItems":7,"prefixItems":[{"format":"email"},{"format":"uri"},{"format":"date-time"},
            {"format":"uuid"},{"format":"ipv6"},{"format":"hostname"},{"type":"string","format":"email","maxLength":40}]})")},
        {"numbers",
         schema(
             R"({"items":{"anyOf":[{"type":"number","minimum":-1.5,"maximum":99.25},{"type":"integer","multipleOf":7}]}})")},
        {"person",
         schema(
             R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},
            "mail":{"type":"string","format":"email"},"tags":{"type":"array","items":{"type":"string","maxLength":20},"maxItems":8},
            "kind":{"enum":["adult","child"]},"score":{"type":"number","minimum":0,"maximum":1},
            "friends":{"type":"array","items":{"$ref":"#"}}},"required":["name","age","tags"],"additionalProperties":false})")},
        {"enum of 500 texts", GrammarSpec::json_schema({{"enum", words}})},
        {"60 optional members", members(60, nullptr)},
        {"300 members, the last required", members(300, "property_299")},
        {"free names of a pattern",
         schema(
             R"({"type":"object","patternProperties":{"^x_[a-z]+$":{"type":"string"}},"additionalProperties":{"type":"array",
            "items":{"type":"boolean"}},"propertyNames":{"maxLength":30}})")},
        {"tree ($ref)",
         schema(
             R"({"$ref":"#/$defs/node","$defs":{"node":{"type":"object","properties":{"value":{"type":"string"},
            "children":{"type":"array","items":{"$ref":"#/$defs/node"}}},"required":["value","children"]}}})")},
        {"thinking, then a tool call",
         GrammarSpec::sequence(
             {GrammarSpec::text_until({"</think>"}), GrammarSpec::regex("\\n{0,2}"),
              GrammarSpec::literal("<tool_call>\n{\"name\": \"get_weather\", \"arguments\": "),
              schema(
                  R"({"properties":{"city":{"type":"string"},"days":{"type":"integer","minimum":1,"maximum":14}},"required":["city"]})"),
              GrammarSpec::literal("}\n</tool_call>")})},
        {"arithmetic (GBNF)",
         GrammarSpec::gbnf("root ::= e\ne ::= t ([-+*/] t)*\nt ::= [0-9]+ | [a-z]+ | \"(\" e \")\"")},
        {"a word, then any text (GBNF)",
         GrammarSpec::gbnf("root ::= word rest\nword ::= [a-z]+\nrest ::= [^x]*")},
    };
}

// Times of all steps of an answer.
std::vector<double> answer(const std::shared_ptr<TokenGrammar>& grammar, const Tokenizer& tokenizer,
                           uint32_t seed) {
    std::vector<double> times;
    std::mt19937 rng(seed);
    GrammarMatcher matcher(grammar);
    const int32_t n_tokens = grammar->n_tokens();
    const std::vector<int32_t> words =
        tokenizer.encode("the quick brown fox jumps over the lazy dog and nobody knows why it does so ");
    for (int step = 0; step < 200 && !matcher.must_end(); ++step) {
        const double begin = cpu_micros();
        const auto bits = matcher.allowed();
        if (bits.empty()) break;
        const double time = micros(begin);
        int32_t id = words[static_cast<size_t>(step) % words.size()];
        const auto may = [&](int32_t i) {
            return ((bits[static_cast<size_t>(i) / 64] >> (i % 64)) & 1) != 0;
        };
        // Strings are hard as long as they last: words as long as they may come, mostly.
        if (!may(id) || rng() % 16 == 0) {
            std::vector<int32_t> all;
            for (int32_t i = 0; i < n_tokens; ++i) {
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

// Of three equal answers the least time of each step: what else runs on the machine does not count.
std::vector<double> least(const auto& answer_times) {
    std::vector<double> times = answer_times();
    for (int again = 0; again < 2; ++again) {
        const std::vector<double> other = answer_times();
        for (size_t i = 0; i < times.size(); ++i) times[i] = std::min(times[i], other.at(i));
    }
    return times;
}

void add(std::vector<double>& all, const std::vector<double>& times) {
    all.insert(all.end(), times.begin(), times.end());
}

std::string figures(std::vector<double> times) {
    std::ranges::sort(times);
    const size_t n = times.size();
    return fmt::format("{:7.1f} {:7.1f} {:7.1f}", times[n / 2], times[n * 99 / 100], times.back());
}

void run(const char* path) {
    const Tokenizer tokenizer = load_tokenizer(std::filesystem::path(path));
    std::vector<TokenText> tokens;
    for (int32_t id = 0; id < tokenizer.n_tokens(); ++id)
        tokens.push_back({tokenizer.token_bytes(id), tokenizer.is_special(id)});
    fmt::print("{:<32} {:>8} {:>8} {:>8} {:>23} {:>23}\n", "", "bind", "again", "holds",
               "first: median 99 % most", "later: median 99 % most");
    for (const Case& c : cases()) {
        std::vector<double> bind, again, first, later;
        std::shared_ptr<TokenGrammar> grammar;
        const auto fresh = [&] {
            const auto trie = make_token_trie(tokens);
            GrammarCache cache([&] { return trie; });
            const auto timed_get = [&](std::vector<double>& times) {
                const double begin = cpu_micros();
                grammar = std::get<std::shared_ptr<TokenGrammar>>(cache.get(c.spec));
                times.push_back(micros(begin));
            };
            timed_get(bind);
            timed_get(again);
        };
        for (uint32_t seed = 1; seed <= 5; ++seed) {
            add(first, least([&] {
                    fresh();
                    return answer(grammar, tokenizer, seed);
                }));
        }
        for (uint32_t seed = 6; seed < 26; ++seed) {
            add(later, least([&] { return answer(grammar, tokenizer, seed); }));
        }
        std::ranges::sort(bind);
        std::ranges::sort(again);
        fmt::print("{:<32} {:5.1f} ms {:5.1f} us {:5.1f} MB {} {}\n", c.name, bind[bind.size() / 2] / 1000,
                   again[again.size() / 2], static_cast<double>(grammar->bytes()) / 1e6,
                   figures(std::move(first)), figures(std::move(later)));
    }
}

}  // namespace

}  // namespace smelt

int main(int argc, char** argv) {
    if (argc != 2) return fmt::print(stderr, "usage: grammar_bench TOKENIZER.JSON\n"), 2;
    smelt::run(argv[1]);
}
