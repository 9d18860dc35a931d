// What compiling may cost, whatever a client sends: one budget over all parts.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "grammar_support.h"
#include "sanitizer.h"

namespace smelt {
namespace {

using Clock = std::chrono::steady_clock;

// Half a second on the machine of the measurements; more under a sanitizer and beside other tests.
constexpr std::chrono::seconds longest{8 * patience};

Json words(int n, const std::string& tail = "") {
    Json list = Json::array();
    for (int i = 0; i < n; ++i) list.push_back(fmt::format("w{}{}", i, tail));
    return list;
}

Json members(int n, const Json& schema) {
    Json all = Json::object();
    for (int i = 0; i < n; ++i) all[fmt::format("p{}", i)] = schema;
    return all;
}

constexpr const char* dear = "^.*w.{14}$";  // 2^15 states

std::vector<Json> hostile_schemas() {
    std::vector<Json> all;
    const auto add = [&](Json s) { all.push_back(std::move(s)); };
    // Those that were reported.
    add({{"enum", words(100)}, {"pattern", dear}});
    add({{"type", "object"}, {"properties", members(300, true)}, {"propertyNames", {{"pattern", dear}}}});
    Json combined = Json::array();
    for (int i = 0; i < 300; ++i)
        combined.push_back({{"$ref", "#/$defs/e"}, {"title", fmt::format("{}", i)}, {"maxLength", i}});
    add({{"$defs", {{"e", {{"enum", words(3000)}}}}}, {"anyOf", combined}});
    // Siblings: the same cost by other ways.
    add({{"const", "w"}, {"pattern", dear}});
    add({{"enum", words(2000)}, {"format", "email"}});
    add({{"enum", words(300)}, {"not", {{"pattern", dear}}}});
    add({{"enum", words(300)}, {"anyOf", {{{"pattern", dear}}, {{"pattern", "^.*x.{14}$"}}}}});
    add({{"enum", words(5000)}, {"allOf", {{{"enum", words(5000)}}, {{"enum", words(5000, "x")}}}}});
    Json patterns = Json::object();
    for (int i = 0; i < 5; ++i) patterns[fmt::format("^.*{}.{{12}}$", static_cast<char>('a' + i))] = true;
    add({{"type", "object"}, {"properties", members(2000, true)}, {"patternProperties", patterns}});
    add({{"type", "object"}, {"patternProperties", patterns}});
    Json many = Json::object();
    for (int i = 0; i < 300; ++i)
        many[fmt::format("p{}", i)] = {{"type", "string"}, {"pattern", fmt::format("^.*{}.{{13}}$", i)}};
    add({{"properties", many}});
    add({{"type", "string"}, {"pattern", "(?=.*a.{12})(?=.*b.{12})(?=.*c.{12})(?!.*d.{12})x*"}});
    add({{"type", "string"}, {"pattern", "(?<=a.{12})(?<=b.{12})(?<!c.{12})x"}});
    add({{"type", "string"}, {"pattern", "((?=((?=((?=a*b)a)*)b)*)c)*"}});
    add({{"type", "string"},
         {"pattern",
          "\\p{L}\\p{N}\\p{Lu}\\p{Ll}\\p{S}\\p{Z}\\p{P}\\p{M}\\p{Sc}\\p{Sm}\\p{Nd}\\p{Greek}\\p{Han}\\p{"
          "Latin}\\p{Thai}"}});
    add({{"type", "string"}, {"pattern", "(?i)(" + std::string(3000, 'k') + "[\\u0000-\\uffff]){20}"}});
    Json branches = Json::array();
    for (int i = 0; i < 400; ++i) branches.push_back({{"type", "object"}, {"properties", members(10, true)}});
    add({{"oneOf", branches}});
    Json nots = Json::array();
    for (int i = 0; i < 200; ++i) nots.push_back({{"not", {{"required", {fmt::format("p{}", i), "q"}}}}});
    add({{"type", "object"}, {"allOf", nots}});
    Json ifs = Json::array();
    for (int i = 0; i < 60; ++i) {
        ifs.push_back({{"if", {{"properties", {{"k", {{"const", i}}}}}}},
                       {"then", {{"required", {fmt::format("p{}", i)}}}}});
    }
    add({{"type", "object"}, {"allOf", ifs}});
    add({{"type", "array"}, {"items", {{"enum", words(3000)}}}, {"uniqueItems", true}, {"minItems", 1000}});
    add({{"type", "array"}, {"contains", {{"pattern", dear}}}, {"minContains", 3000}});
    add({{"type", "object"}, {"properties", members(9000, {{"type", "integer"}})}, {"minProperties", 5}});
    add({{"enum", {std::string(900'000, 'x'), std::string(900'000, 'y')}}});
    Json deep_list = Json::array({1});
    for (int i = 0; i < 40; ++i) deep_list = Json::array({deep_list, 2});
    Json twice = Json::array();
    for (int i = 0; i < 300; ++i) twice.push_back(deep_list);
    add({{"enum", twice}, {"allOf", {{{"enum", twice}}}}});
    return all;
}

TEST(GrammarCost, EverySchemaIsDoneWithSoon) {
    for (const Json& schema : hostile_schemas()) {
        const auto begin = Clock::now();
        const auto result = compile_grammar(GrammarSpec::json_schema(schema));
        const auto took = Clock::now() - begin;
        EXPECT_LT(took, longest) << to_string(schema).substr(0, 200);
        if (const auto* e = std::get_if<GrammarError>(&result)) {
            EXPECT_FALSE(e->text.empty());
        }
    }
}

TEST(GrammarCost, EveryTextIsDoneWithSoon) {
    std::string many_words = "root ::= ";
    for (int i = 0; i < 3000; ++i)
        many_words +=
            fmt::format("\"{}\" | ", std::string(200, static_cast<char>('a' + i % 26)) + std::to_string(i));
    std::string rules = "root ::= r0\n";
    for (int i = 0; i < 3000; ++i)
        rules += fmt::format("r{} ::= (r{} | \"a\"{{1,500}} [^b] r{}?){{0,900}}\n", i, i + 1, i + 1);
    std::vector<GrammarSpec> specs = {
        GrammarSpec::gbnf(many_words + "\"z\""), GrammarSpec::gbnf(rules + "r3000 ::= \"c\""),
        GrammarSpec::regex("(.*a.{15}|.*b.{15})"), GrammarSpec::regex("((a{0,1000}){0,1000}b){0,1000}")};
    std::vector<std::string> ends;
    for (int i = 0; i < 500; ++i) ends.push_back(fmt::format("end {} {}", std::string(300, 'e'), i));
    specs.push_back(GrammarSpec::text_until(ends));
    for (const GrammarSpec& s : specs) {
        const auto begin = Clock::now();
        compile_grammar(s);
        EXPECT_LT(Clock::now() - begin, longest) << s.value.substr(0, 100);
    }
}

TEST(GrammarCost, TheBudgetIsOneForAllParts) {
    const GrammarSpec one =
        GrammarSpec::json_schema({{"type", "string"}, {"pattern", "^.*w.{9}$"}, {"maxLength", 30}});
    std::vector<GrammarSpec> parts(200, one);
    const GrammarOptions options{.effort = {.max_work = 5'000'000}};
    const auto cheap = compile_grammar(one, options);
    ASSERT_TRUE(std::holds_alternative<Grammar>(cheap));
    const auto all = compile_grammar(GrammarSpec::sequence(parts), options);
    ASSERT_TRUE(std::holds_alternative<GrammarError>(all));
    EXPECT_EQ(std::get<GrammarError>(all).reason, GrammarError::Reason::cost);
}

TEST(GrammarCost, TimeEndsItToo) {
    const auto result = compile_grammar(
        GrammarSpec::json_schema({{"enum", words(5000)}, {"allOf", {{{"enum", words(5000)}}}}}),
        {.effort = {.max_time = std::chrono::milliseconds(0)}});
    ASSERT_TRUE(std::holds_alternative<GrammarError>(result));
    EXPECT_EQ(std::get<GrammarError>(result).reason, GrammarError::Reason::cost);
    EXPECT_NE(std::get<GrammarError>(result).text.find("too long"), std::string::npos);
}

TEST(GrammarCost, NobodyWaits) {
    std::atomic<bool> cancelled = false;
    std::thread client([&] {
        std::this_thread::sleep_for(std::chrono::milliseconds(30));
        cancelled = true;
    });
    const auto begin = Clock::now();
    const auto result = compile_grammar(
        GrammarSpec::regex("(?!.*a.{20})[a-z]*"),
        {.limits = {.max_states = 10'000'000, .max_edges = 100'000'000},
         .effort = {
             .max_work = size_t{1} << 40, .max_time = std::chrono::hours(1), .cancelled = &cancelled}});
    EXPECT_LT(Clock::now() - begin, std::chrono::seconds(5 * patience));
    client.join();
    ASSERT_TRUE(std::holds_alternative<GrammarError>(result));
    EXPECT_NE(std::get<GrammarError>(result).text.find("nobody waits"), std::string::npos);
}

}  // namespace
}  // namespace smelt
