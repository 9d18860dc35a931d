// Compiled grammars that are kept: the same form is the same grammar, another is never taken for it, and what
// is kept stays within its bounds, whoever uses it on whatever thread.
#include "grammar/grammar_cache.h"

#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "grammar_support.h"

namespace smelt {
namespace {

using GrammarPtr = std::shared_ptr<TokenGrammar>;

GrammarSpec schema(const char* text) {
    return GrammarSpec::json_schema(Json::parse(text));
}

std::shared_ptr<const TokenTrie> make_trie() {
    return make_token_trie(Vocabulary().texts());
}

GrammarPtr get(GrammarCache& cache, const GrammarSpec& spec, const GrammarOptions& options = {}) {
    auto result = cache.get(spec, options);
    if (auto* grammar = std::get_if<GrammarPtr>(&result)) return std::move(*grammar);
    throw std::runtime_error(std::get<GrammarError>(result).message());
}

bool takes(const GrammarPtr& grammar, std::string_view text) {
    GrammarMatcher matcher(grammar);
    return std::ranges::all_of(text, [&](char c) { return matcher.accept(static_cast<uint8_t>(c)); });
}

TEST(GrammarCache, TheSameFormIsTheSameGrammar) {
    int n_tries = 0;
    GrammarCache cache([&] {
        ++n_tries;
        return make_trie();
    });
    const char* person = R"({"properties":{"name":{"type":"string"},"age":{"type":"integer"}}})";
    const GrammarPtr first = get(cache, schema(person));
    EXPECT_EQ(get(cache, schema(person)), first);
    // White space and escapes are gone when a schema has been read.
    EXPECT_EQ(
        get(cache,
            schema(R"({ "properties": {"n\u0061me": {"type": "string"}, "age": {"type": "integer"}}})")),
        first);
    EXPECT_NE(get(cache, GrammarSpec::json_object()), first);
    EXPECT_EQ(cache.stats().n_hits, 2u);
    EXPECT_EQ(cache.stats().n_misses, 2u);
    EXPECT_EQ(cache.stats().n_grammars, 2u);
    EXPECT_EQ(n_tries, 1);
}

TEST(GrammarCache, MembersInAnotherOrderAreAnotherForm) {
    GrammarCache cache(make_trie);
    const GrammarPtr ab = get(cache, schema(R"({"properties":{"a":{"const":1},"b":{"const":2}}})"));
    const GrammarPtr ba = get(cache, schema(R"({"properties":{"b":{"const":2},"a":{"const":1}}})"));
    EXPECT_TRUE(takes(ab, R"({"a":1,"b":2})"));
    EXPECT_FALSE(takes(ab, R"({"b":2,"a":1})"));
    EXPECT_TRUE(takes(ba, R"({"b":2,"a":1})"));
    EXPECT_FALSE(takes(ba, R"({"a":1,"b":2})"));
}

TEST(GrammarCache, WhateverDiffersIsAnotherForm) {
    using S = GrammarSpec;
    const S a = S::literal("a");
    const std::vector<S> specs = {
        a,
        S::regex("a"),
        S::gbnf("root ::= \"a\""),
        S::control_token("<|end|>"),
        S::literal("<|end|>"),
        schema(R"({"const":1})"),
        schema(R"({"const":1.0})"),
        schema(R"({"const":"1"})"),
        schema(R"({"enum":["ab","c"]})"),
        schema(R"({"enum":["a","bc"]})"),
        S::sequence({a}),
        S::one_of({a}),
        S::sequence({a, a}),
        S::sequence({S::sequence({a}), a}),
        S::sequence({S::sequence({a, a})}),
        S::one_of_texts({"ab", "c"}),
        S::one_of_texts({"a", "bc"}),
        S::repeat(a, 0, 1),
        S::repeat(a, 1, 1),
        S::repeat(a, 0, 2),
        S::repeat(a, 0),
        S::text_until({"ab", "c"}),
        S::text_until({"a", "bc"}),
        S::text_until({"c", "ab"}),
        S::text_without({"ab", "c"}),
    };
    GrammarCache cache(make_trie);
    std::vector<GrammarPtr> all;
    for (const S& s : specs) all.push_back(get(cache, s));
    all.push_back(get(cache, a, {.compact = true}));
    all.push_back(get(cache, a, {.limits = {.max_states = 1000}}));
    all.push_back(get(cache, a, {.limits = {.max_edges = 1000}}));
    EXPECT_EQ(cache.stats().n_hits, 0u);
    std::ranges::sort(all);
    EXPECT_EQ(std::ranges::adjacent_find(all), all.end());

    // What is printed alike need not be alike.
    EXPECT_NE(get(cache, S::json_schema({{"const", "\xef\xbf\xbd"}})),
              get(cache, S::json_schema({{"const", "\xff"}})));
    EXPECT_EQ(cache.stats().n_hits, 0u);
}

TEST(GrammarCache, TheLatestAreKept) {
    GrammarCache cache(make_trie, {.max_grammars = 2});
    const auto is_known = [&](const char* pattern) {
        const uint64_t before = cache.stats().n_hits;
        get(cache, GrammarSpec::regex(pattern));
        EXPECT_LE(cache.stats().n_grammars, 2u);
        return cache.stats().n_hits > before;
    };
    EXPECT_FALSE(is_known("a"));
    EXPECT_FALSE(is_known("b"));
    EXPECT_TRUE(is_known("a"));
    EXPECT_FALSE(is_known("c"));  // in place of b
    EXPECT_TRUE(is_known("a"));
    EXPECT_FALSE(is_known("b"));  // in place of c
    EXPECT_TRUE(is_known("a"));
    EXPECT_FALSE(is_known("c"));
}

TEST(GrammarCache, MemoryIsBounded) {
    constexpr size_t max_bytes = 300'000;
    GrammarCache cache(make_trie, {.max_bytes = max_bytes});
    size_t n = 0;
    for (int i = 0; i < 60; ++i) {
        // The text of the form counts as well.
        const std::string name(static_cast<size_t>(i) * 100, 'x');
        get(cache, GrammarSpec::json_schema({{"properties", {{name, {{"type", "string"}}}}}}));
        n = cache.stats().n_grammars;
        EXPECT_GT(n, 0u);
        EXPECT_LE(cache.stats().n_bytes, max_bytes);
    }
    EXPECT_LT(n, 60u);
    // One that is too large alone goes alone.
    const GrammarPtr large =
        get(cache, GrammarSpec::regex("(?:abc|def|[0-9]{7}){1,20}" + std::string(5000, 'x')));
    EXPECT_GT(large->bytes(), max_bytes);
    EXPECT_EQ(cache.stats().n_grammars, n);
    EXPECT_TRUE(takes(large, "abc0123456"));
}

// Each count of turns has sets of its own there, which are made when they are met.
TEST(GrammarCache, WhatGrewInUseIsDroppedWhenItComesBack) {
    const GrammarSpec spec = GrammarSpec::regex("(?:[0-9]{1,2}){2,600}(?:a|aa){1,700}");
    const auto use = [](const GrammarPtr& grammar) {
        GrammarMatcher matcher(grammar);
        for (int i = 0; i < 500; ++i) {
            ASSERT_FALSE(matcher.allowed().empty());
            ASSERT_TRUE(matcher.accept('1'));
        }
    };
    GrammarCache any(make_trie);
    GrammarPtr grammar = get(any, spec);
    const size_t before = any.stats().n_bytes;
    use(grammar);
    ASSERT_GT(any.stats().n_bytes, before + 1000);
    grammar.reset();
    EXPECT_EQ(any.stats().n_grammars, 1u);

    GrammarCache tight(make_trie, {.max_bytes = before + 1000});
    grammar = get(tight, spec);
    GrammarPtr again = get(tight, spec);
    EXPECT_EQ(again, grammar);
    use(grammar);
    grammar.reset();
    EXPECT_EQ(tight.stats().n_grammars, 0u);
    use(again);
    EXPECT_NE(get(tight, spec), again);
}

TEST(GrammarCache, RefusalsAreSaidEachTimeAndNotKept) {
    GrammarCache cache(make_trie);
    for (const GrammarSpec& spec : {schema(R"({"uniqueItems":true})"), GrammarSpec::regex("("),
                                    GrammarSpec::control_token("<|none|>")}) {
        const auto first = cache.get(spec), second = cache.get(spec);
        ASSERT_TRUE(std::holds_alternative<GrammarError>(first));
        ASSERT_TRUE(std::holds_alternative<GrammarError>(second));
        EXPECT_EQ(std::get<GrammarError>(first).message(), std::get<GrammarError>(second).message());
    }
    EXPECT_EQ(cache.stats().n_grammars, 0u);
    EXPECT_EQ(cache.stats().n_misses, 6u);
}

TEST(GrammarCache, GrammarsOutliveIt) {
    auto cache = std::make_unique<GrammarCache>(make_trie);
    const GrammarPtr grammar = get(*cache, GrammarSpec::json_object());
    cache.reset();
    EXPECT_TRUE(takes(grammar, R"({"a": [1, true]})"));
}

// The sets of an answer, step by step; which tokens come depends on the seed alone.
std::vector<std::vector<uint64_t>> answer(const GrammarPtr& grammar, uint32_t seed) {
    std::vector<std::vector<uint64_t>> sets;
    std::mt19937 rng(seed);
    GrammarMatcher matcher(grammar);
    for (int step = 0; step < 40 && !matcher.must_end(); ++step) {
        const auto bits = matcher.allowed();
        sets.emplace_back(bits.begin(), bits.end());
        std::vector<int32_t> allowed;
        for (int32_t id = 0; id < grammar->n_tokens(); ++id) {
            if (contains(bits, id)) allowed.push_back(id);
        }
        if (allowed.empty() || !matcher.accept(allowed[rng() % allowed.size()])) break;
    }
    return sets;
}

TEST(GrammarCache, AnswersOnManyThreadsAreThoseOfFreshGrammars) {
    const std::vector<GrammarSpec> specs = {
        schema(R"({"properties":{"name":{"type":"string","maxLength":20},"n":{"type":"integer"}}})"),
        schema(
            R"({"type":"array","items":{"type":"string","pattern":"^[a-z ]+$","minLength":5,"maxLength":60}})"),
        GrammarSpec::regex("(?:[0-9]{1,2}){2,60}(?:a|aa){1,70}"),
        GrammarSpec::gbnf("root ::= \"[\" (root (\",\" root)*)? \"]\" | [a-z]{3,5}"),
        GrammarSpec::sequence({GrammarSpec::text_until({"<tool_call>"}), GrammarSpec::json_object()}),
    };
    constexpr uint32_t n_seeds = 4;
    std::vector<std::vector<std::vector<std::vector<uint64_t>>>> expected;
    for (const GrammarSpec& spec : specs) {
        auto& of_spec = expected.emplace_back();
        for (uint32_t seed = 0; seed < n_seeds; ++seed) {
            GrammarCache fresh(make_trie);
            of_spec.push_back(answer(get(fresh, spec), seed));
        }
    }
    // Fewer places than forms, so that grammars come and go while others use them.
    GrammarCache cache(make_trie, {.max_grammars = 3});
    std::atomic<int> n_wrong = 0;
    constexpr int n_threads = 6, n_rounds = 60;
    std::vector<std::thread> threads;
    for (uint32_t t = 0; t < n_threads; ++t) {
        threads.emplace_back([&, t] {
            std::mt19937 rng(t);
            for (int i = 0; i < n_rounds; ++i) {
                const size_t which = rng() % specs.size();
                const uint32_t seed = rng() % n_seeds;
                if (answer(get(cache, specs[which]), seed) != expected[which][seed]) ++n_wrong;
            }
        });
    }
    for (std::thread& t : threads) t.join();
    EXPECT_EQ(n_wrong, 0);
    const GrammarCacheStats stats = cache.stats();
    EXPECT_EQ(stats.n_hits + stats.n_misses, uint64_t{n_threads * n_rounds});
    EXPECT_GT(stats.n_hits, 0u);
    EXPECT_LE(stats.n_grammars, 3u);
}

}  // namespace
}  // namespace smelt
