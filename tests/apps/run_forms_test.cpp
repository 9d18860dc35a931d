// smelt run: answers that have a form, beams, best of several, samplers.
#include <gtest/gtest.h>
#include <regex.h>
#include <unistd.h>

#include "apps/command.h"
#include "base/json.h"

namespace smelt {
namespace {

// The whole text, by the system's own matcher.
bool matches(const std::string& text, const std::string& pattern) {
    regex_t compiled;
    if (regcomp(&compiled, ("^(" + pattern + ")$").c_str(), REG_EXTENDED | REG_NOSUB) != 0) return false;
    const int result = regexec(&compiled, text.c_str(), 0, nullptr, 0);
    regfree(&compiled);
    return result == 0;
}

const std::string ask = "run " SMELT_MODELS "/demo-5m -p 'A person, as JSON.' ";

Json answer(const std::string& options) {
    const CommandResult r = smelt_command(ask + "--json " + options);
    EXPECT_EQ(r.status, 0) << options << ": " << r.err;
    return r.status == 0 ? parse_json(r.out, "stdout") : Json({{"answer", ""}, {"cumulative_logprob", 0}});
}

std::string text(const std::string& options) {
    return answer(options).at("answer");
}

void expect_failure(const std::string& options, int status, const std::string& reason) {
    const CommandResult r = smelt_command(ask + options);
    EXPECT_EQ(r.status, status) << options;
    EXPECT_NE(r.err.find(reason), std::string::npos) << options << ": " << r.err;
    EXPECT_EQ(r.out, "") << options;
}

TEST(RunForms, JsonSchema) {
    const std::string schema =
        R"('{"type":"object","properties":{"name":{"type":"string","maxLength":12},)"
        R"("age":{"type":"integer","minimum":0,"maximum":150},"kind":{"enum":["adult","child"]}},)"
        R"("required":["name","age","kind"]}')";
    for (const char* options :
         {"--no-think --temp 0", "--no-think --temp 1.3 --seed 4", "--think --seed 5"}) {
        const Json j = answer("--json-schema " + schema + " -n 400 " + options);
        if (j.at("finish_reason") == "length") continue;  // thinking has no end of its own
        const Json value = parse_json(j.at("answer").get<std::string>(), options);
        EXPECT_EQ(value.size(), 3u);
        EXPECT_LE(value.at("name").get<std::string>().size(), 4 * 12u);
        EXPECT_TRUE(value.at("age") >= 0 && value.at("age") <= 150) << value;
        EXPECT_TRUE(value.at("kind") == "adult" || value.at("kind") == "child");
        EXPECT_EQ(j.at("finish_reason"), "stop");
    }
}

TEST(RunForms, JsonSchemaFromAFile) {
    const std::string path = testing::TempDir() + "schema.json";
    std::ofstream(path) << R"({"type":"array","items":{"type":"boolean"},"minItems":3,"maxItems":3})";
    const Json value = parse_json(text("--no-think --json-schema " + path), "answer");
    EXPECT_EQ(value.size(), 3u);
    std::filesystem::remove(path);
}

TEST(RunForms, OneSchemaToTheEndWithoutThinking) {
    const Json value = parse_json(
        text(
            R"(--no-think --seed 2 --json-schema '{"type":"string","pattern":"^[a-c]+$","minLength":3,"maxLength":5}')"),
        "answer");
    EXPECT_TRUE(matches(value, "[a-c]{3,5}")) << value;
}

TEST(RunForms, RegexAndGrammar) {
    EXPECT_TRUE(matches(text("--no-think --regex '[0-9]{3}-(yes|no)'"), "[0-9]{3}-(yes|no)"));
    EXPECT_TRUE(matches(text(R"(--no-think --grammar 'root ::= n ("+" n){2}
n ::= [1-9][0-9]?')"),
                        R"([1-9][0-9]?(\+[1-9][0-9]?){2})"));
    EXPECT_TRUE(
        parse_json(
            text(
                R"(--no-think --json-schema '{"type":"object","maxProperties":2,"additionalProperties":{"type":"null"},"propertyNames":{"maxLength":5}}' -n 200)"),
            "answer")
            .is_object());
}

TEST(RunForms, WhatCannotBeKeptIsRefusedWithThePlace) {
    expect_failure(R"(--json-schema '{"properties":{"a":{"uniqueItems":true}}}')", 1,
                   "/properties/a: uniqueItems");
    expect_failure("--json-schema '{\"type\":'", 1, "--json-schema");
    expect_failure(R"(--json-schema '{"type":"intger"}')", 1, "intger");
    expect_failure("--json-schema /nonexistent/schema.json", 1, "--json-schema");
    expect_failure(R"(--regex '(a)\1')", 1, "escape");
    expect_failure("--grammar 'root ::= word'", 1, "word");
    expect_failure("--regex a --grammar 'root ::= \"a\"'", 2, "--grammar");
}

TEST(RunForms, BeamsAreAsLikelyAsTheGreedyAnswer) {
    const std::string options = "--no-think -n 12 --temp 0 ";
    const auto logprob = [](const std::string& o) {
        return answer(o).at("cumulative_logprob").get<double>();
    };
    const double greedy = logprob(options);
    EXPECT_LT(greedy, 0);
    EXPECT_NEAR(logprob(options + "--beams 1 --length-penalty 0"), greedy, 1e-3);
    for (const char* width : {"4", "8"}) {
        const double beams = logprob(options + "--length-penalty 0 --beams " + width);
        EXPECT_GE(beams, greedy - 1e-3) << width;
        EXPECT_LT(beams, 0) << width;
    }
    expect_failure("--beams 4 --regex a", 1, "beam search");
    expect_failure("--beams 4 --best-of 2", 1, "beam search");
    expect_failure("--length-penalty 1", 2, "--beams");
}

TEST(RunForms, BestOfIsTheLikeliestOfItsAnswers) {
    const auto logprob = [](const std::string& options) {
        return answer("--no-think -n 10 --temp 1.5 --seed 3 " + options)
            .at("cumulative_logprob")
            .get<double>();
    };
    const double one = logprob(""), eight = logprob("--best-of 8");
    EXPECT_GE(eight, one);  // the first of the eight is the one
    EXPECT_EQ(logprob("--best-of 8"), eight);
}

TEST(RunForms, Samplers) {
    const std::string base = "--no-think -n 24 --temp 1.2 --seed 7 ";
    const std::string plain = text(base), greedy = text("--no-think -n 24 --temp 0");
    ASSERT_NE(plain, greedy);
    // Next to nothing but the likeliest token is left, or nothing is changed.
    EXPECT_EQ(text(base + "--top-n-sigma 0.000001"), greedy);
    EXPECT_EQ(text(base + "--typical-p 1"), plain);
    EXPECT_EQ(text(base + "--xtc-probability 1 --xtc-threshold 0.99"), plain);
    EXPECT_EQ(text(base + "--dry-multiplier 0"), plain);
    EXPECT_NE(text(base + "--typical-p 0.1"), plain);
    EXPECT_NE(text("--no-think -n 24 --temp 1 --top-k 20 --seed 7 --xtc-probability 1 --xtc-threshold 0.05"),
              text("--no-think -n 24 --temp 1 --top-k 20 --seed 7"));
    EXPECT_NE(text("--no-think -n 60 --temp 0 --dry-multiplier 5 --dry-allowed-length 1"),
              text("--no-think -n 60 --temp 0"));
    expect_failure("--typical-p 3", 2, "--typical-p");
    expect_failure("--xtc-probability -1", 2, "--xtc-probability");
    expect_failure("--top-n-sigma -2", 2, "--top-n-sigma");
}

}  // namespace
}  // namespace smelt
