// Grammars over tokens: the set of each step is what asking token by token gives.
#include <gtest/gtest.h>

#include <random>

#include "grammar/token_trie.h"
#include "grammar_support.h"

namespace smelt {
namespace {

std::vector<GrammarSpec> specs() {
    std::vector<GrammarSpec> all;
    for (
        const char* schema : {
            R"({"type":"object"})",
            R"(true)",
            R"({"type":"string"})",
            R"({"type":"string","minLength":3,"maxLength":9})",
            R"({"type":"string","minLength":5})",
            R"({"type":"string","pattern":"^a{2,30}\"?$"})",
            R"({"type":"string","pattern":"^([aé\" ]+ )*[a-z]+$","maxLength":9})",
            R"({"type":"string","pattern":"^[^<]*$","minLength":4,"maxLength":11})",
            R"({"type":"string","pattern":"^(ab|é😀)*$","minLength":3,"maxLength":8})",
            R"({"type":"string","pattern":"a","minLength":5})",
            R"({"type":"string","pattern":"^(aaa)*(bb)?$","maxLength":6})",
            R"({"type":"array","items":{"type":"string","pattern":"^a*$","minLength":2,"maxLength":3}})",
            R"({"type":"array","items":{"type":"integer"},"minItems":2,"maxItems":5})",
            R"({"type":"array","items":{"type":"string","maxLength":4},"maxItems":3})",
            R"({"properties":{"name":{"type":"string","maxLength":12},"a":{"type":"number"},"b":{"anyOf":[{"type":"null"},{"$ref":"#"}]}},"required":["b"],"additionalProperties":{"enum":["hello world",null,true]}})",
            R"({"type":"number","minimum":-3.25,"maximum":1299.5})",
            R"({"enum":["aaaa","aaaaab",[1,"a"]]})",
        }) {
        all.push_back(GrammarSpec::json_schema(Json::parse(schema)));
    }
    all.push_back(GrammarSpec::regex("([0-9]{1,2}){2,6}(a|aa){1,7}"));
    all.push_back(GrammarSpec::regex(".{3,40}"));
    all.push_back(GrammarSpec::regex("[a-z](?:[a-z ]{0,12}[a-z])?"));
    all.push_back(GrammarSpec::regex("(?:(?:a|he|l+|o ){2,4}[^x]){1,5}"));
    all.push_back(GrammarSpec::gbnf("root ::= word rest\nword ::= [a-z]+\nrest ::= [^x]*"));
    all.push_back(GrammarSpec::gbnf("root ::= \"[\" (root (\",\" root)*)? \"]\" | \"a\"{3,5}"));
    all.push_back(GrammarSpec::sequence({GrammarSpec::text_until({"<tool_call>"}),
                                         GrammarSpec::control_token("<|end|>"), GrammarSpec::literal("ab")}));
    return all;
}

TEST(TokenGrammar, SetsAreWhatTheTokensSay) {
    const Vocabulary vocabulary;
    const auto trie = make_token_trie(vocabulary.texts());
    std::mt19937 rng(1);
    for (const GrammarSpec& spec : specs()) {
        const Grammar grammar = compiled(spec);
        auto made = TokenGrammar::make(grammar, trie);
        ASSERT_TRUE(std::holds_alternative<std::shared_ptr<TokenGrammar>>(made));
        const auto tokens = std::get<std::shared_ptr<TokenGrammar>>(made);
        for (int answer = 0; answer < 20; ++answer) {
            GrammarMatcher matcher(tokens);
            std::string text;
            bool ended = false;
            for (int step = 0; step < 60 && !ended; ++step) {
                const auto span = matcher.allowed();
                ASSERT_FALSE(span.empty());
                const std::vector<uint64_t> bits(span.begin(), span.end());
                std::vector<int32_t> allowed;
                for (int32_t id = 0; id < vocabulary.size(); ++id) {
                    GrammarMatcher ahead(matcher);
                    ASSERT_EQ(contains(bits, id), ahead.accept(id))
                        << spec.value << to_string(spec.schema) << "\n"
                        << text << "|" << vocabulary[id];
                    if (contains(bits, id)) allowed.push_back(id);
                }
                ASSERT_TRUE(!allowed.empty() || matcher.may_end()) << text;
                EXPECT_EQ(allowed.empty(), matcher.must_end());
                EXPECT_EQ(matcher.may_end(), accepts(grammar, text)) << text;
                ended = allowed.empty() || (matcher.may_end() && rng() % 4 == 0);
                if (ended) break;
                const int32_t id = allowed[rng() % allowed.size()];
                ASSERT_TRUE(matcher.accept(id));
                text += vocabulary[id] == "<|end|>" ? "\xff<|end|>\xff" : vocabulary[id];
            }
            if (ended) {
                EXPECT_TRUE(accepts(grammar, text)) << text;
            }
        }
    }
}

// Thousands of states passed: what is dropped is not missed.
TEST(TokenGrammar, LongAnswers) {
    const Vocabulary vocabulary;
    const auto tokens = std::get<std::shared_ptr<TokenGrammar>>(
        TokenGrammar::make(compiled(GrammarSpec::json_schema(true)), make_token_trie(vocabulary.texts())));
    GrammarMatcher matcher(tokens);
    std::string text;
    for (int i = 0; i < 20'000; ++i) {
        const int32_t id = i < 10'000 ? '[' : ']';
        ASSERT_FALSE(matcher.may_end());
        ASSERT_TRUE(contains(matcher.allowed(), id)) << i;
        ASSERT_TRUE(matcher.accept(id)) << i;
        ASSERT_FALSE(i < 10'000 && matcher.accept('x'));
    }
    EXPECT_TRUE(matcher.must_end());
}

TEST(TokenGrammar, RefusesVocabulariesWithoutTheBytes) {
    std::vector<std::string> tokens;
    for (int b = 0; b < 128; ++b) tokens.emplace_back(1, static_cast<char>(b));
    std::vector<TokenText> texts;
    for (const std::string& t : tokens) texts.push_back({.bytes = t});
    const auto trie = make_token_trie(texts);
    EXPECT_TRUE(std::holds_alternative<GrammarError>(
        TokenGrammar::make(compiled(GrammarSpec::regex("[a-é]")), trie)));
    EXPECT_TRUE(std::holds_alternative<GrammarError>(
        TokenGrammar::make(compiled(GrammarSpec::control_token("<|call|>")), trie)));
    EXPECT_FALSE(std::holds_alternative<GrammarError>(
        TokenGrammar::make(compiled(GrammarSpec::regex("[a-z]")), trie)));
}

// In a vocabulary of which nearly all may come: a bit for each token, and no more.
TEST(TokenGrammar, HoldsWhatItNeeds) {
    std::vector<std::string> tokens;
    for (int b = 0; b < 128; ++b) tokens.emplace_back(1, static_cast<char>(b));
    for (int i = 0; i < 26 * 26 * 26 * 4; ++i) {
        std::string word;
        for (int rest = i, k = 0; k < 4; ++k, rest /= 26) word += static_cast<char>('a' + rest % 26);
        tokens.push_back(word);
    }
    std::vector<TokenText> texts;
    for (const std::string& t : tokens) texts.push_back({.bytes = t});
    const auto made = TokenGrammar::make(compiled(GrammarSpec::regex("[a-z]*")), make_token_trie(texts));
    const auto grammar = std::get<std::shared_ptr<TokenGrammar>>(made);
    EXPECT_TRUE(contains(GrammarMatcher(grammar).allowed(), 200));
    EXPECT_GT(grammar->bytes(), tokens.size() / 8);
    EXPECT_LT(grammar->bytes(), tokens.size());
}

TEST(TokenTrie, SharedSetsAreBounded) {
    const auto trie = make_token_trie(Vocabulary().texts());
    constexpr size_t large = size_t{10} << 20;
    const auto set = [](size_t bytes) {
        return std::make_shared<const grammar::PositionSet>(
            grammar::PositionSet{.bits = std::vector<uint64_t>(bytes / 8)});
    };
    const auto n_kept = [&] {
        int n = 0;
        for (int i = 0; i < 300; ++i) n += trie->find_set(std::to_string(i)) != nullptr;
        return n;
    };
    for (int i = 0; i < 20; ++i) {
        trie->keep_set(std::to_string(i), set(large));
        EXPECT_NE(trie->find_set(std::to_string(i)), nullptr);
        EXPECT_LE(n_kept(), 6);
    }
    trie->keep_set("large", set(10 * large));
    EXPECT_EQ(trie->find_set("large"), nullptr);
    EXPECT_GT(n_kept(), 0);
    for (int i = 100; i < 300; ++i) trie->keep_set(std::to_string(i), set(8));
    EXPECT_LE(n_kept(), 128);
    EXPECT_NE(trie->find_set("299"), nullptr);
}

// A grammar whose states explode ends the answer instead of the machine.
TEST(TokenGrammar, CostsABoundedAmount) {
    const Vocabulary vocabulary;
    const auto trie = make_token_trie(vocabulary.texts());
    const auto made =
        TokenGrammar::make(compiled(GrammarSpec::regex("(?:[ab]|a[ab]|ab[ab]){0,900}(?:.?.?a){900}x")), trie);
    GrammarMatcher matcher(std::get<std::shared_ptr<TokenGrammar>>(made));
    std::mt19937 rng(1);
    for (int i = 0; i < 300; ++i) {
        if (matcher.allowed().empty() || !matcher.accept(rng() % 2 == 0 ? 'a' : 'b')) break;
    }
}

}  // namespace
}  // namespace smelt
