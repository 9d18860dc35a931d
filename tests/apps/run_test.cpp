// smelt run, logits and the command line as such, through the binary.
#include <gtest/gtest.h>
#include <unistd.h>

#include <sstream>

#include "apps/command.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-5m";
const std::string large_model = SMELT_MODELS "/demo-23m";

TEST(CommandLine, UsageErrorsExitWithTwoAndFailuresWithOne) {
    EXPECT_EQ(smelt_command("").status, 2);
    EXPECT_EQ(smelt_command("nonsense").status, 2);
    EXPECT_EQ(smelt_command("run").status, 2);
    EXPECT_EQ(smelt_command("run " + model + " -p hi --temp warm").status, 2);
    const CommandResult missing = smelt_command("run /nonexistent -p hi");
    EXPECT_EQ(missing.status, 1);
    EXPECT_NE(missing.err.find("/nonexistent"), std::string::npos) << missing.err;
    EXPECT_EQ(missing.out, "");
    EXPECT_EQ(smelt_command("--version").status, 0);
}

TEST(CommandLine, EveryVerbHasHelpWithAnExample) {
    const CommandResult help = smelt_command("--help");
    ASSERT_EQ(help.status, 0);
    size_t n_verbs = 0;
    const size_t start = help.out.find("Subcommands:");
    ASSERT_NE(start, std::string::npos);
    std::istringstream lines(help.out.substr(start));
    std::string line;
    std::getline(lines, line);
    while (std::getline(lines, line) && line.starts_with("  ")) {
        if (line[2] == ' ') continue;  // a description that goes on
        const std::string verb = line.substr(2, line.find_first_of(" ,", 2) - 2);
        const CommandResult r = smelt_command(verb + " --help");
        EXPECT_EQ(r.status, 0) << verb;
        EXPECT_NE(r.out.find("smelt " + verb + " "), std::string::npos) << verb << " has no example";
        ++n_verbs;
    }
    EXPECT_GE(n_verbs, 10u);
}

TEST(Run, AnswersOnStdoutAndMeasuresOnStderr) {
    const CommandResult r =
        smelt_command("run " + large_model + " -p 'What is 12 + 30?' --temp 0 --no-think");
    EXPECT_EQ(r.status, 0) << r.err;
    EXPECT_EQ(r.out, "12 + 30 = 42\n");
    EXPECT_NE(r.err.find("tok/s"), std::string::npos);
    EXPECT_NE(r.err.find("memory"), std::string::npos);
}

TEST(Run, KvFormats) {
    const std::string ask = "run " + large_model + " -p 'What is 12 + 30?' --temp 0 --no-think --kv ";
    const auto answer = [&](const std::string& kv) {
        const CommandResult r = smelt_command(ask + kv);
        EXPECT_EQ(r.status, 0) << r.err;
        return r.out;
    };
    for (const char* kv : {"f32", "bf16", "q8_0", "fp8"}) EXPECT_EQ(answer(kv), "12 + 30 = 42\n") << kv;
    EXPECT_NE(answer("k=q8_0,v=q4_0"), "");
    const CommandResult unknown = smelt_command(ask + "q5_0");
    EXPECT_EQ(unknown.status, 2);
    EXPECT_NE(unknown.err.find("expected one of f32, f16, bf16, q8_0, q4_0, fp8"), std::string::npos)
        << unknown.err;
    const CommandResult apart =
        smelt_command("logits " SMELT_TEST_DATA "/goldens/glm4-moe-lite --ids 1,2 -o " + testing::TempDir() +
                      "kv.npy --kv k=f32,v=f16");
    EXPECT_EQ(apart.status, 1);
    EXPECT_NE(apart.err.find("expected one format for both"), std::string::npos) << apart.err;
}

// Template, tokenizer, model, sampler and text stream together give what transformers gave.
TEST(Run, GreedyAnswersAreTheReferenceImplementations) {
    int n_cases = 0;
    for (const std::string& folder : {model, large_model}) {
        const Json cases = parse_json(MappedFile(folder + "/golden.json").text(), "golden.json");
        for (const Json& c : cases) {
            std::string line = "run " + folder + " --json --temp 0 -n 64";
            line += c.at("enable_thinking").get<bool>() ? " --think" : " --no-think";
            for (const Json& m : c.at("messages")) {
                const std::string option = m.at("role") == "system" ? " --system '" : " -p '";
                line += option + m.at("content").get<std::string>() + "'";
            }
            const CommandResult r = smelt_command(line);
            ASSERT_EQ(r.status, 0) << r.err;
            // The golden text has the marks and the end token that an answer leaves out.
            std::string expected = c.at("text");
            const size_t close = expected.find("</think>");
            if (close != std::string::npos) expected.erase(0, expected.find_first_not_of("\n", close + 8));
            const size_t end = expected.find("<|im_end|>");
            if (end != std::string::npos) expected.erase(end);
            EXPECT_EQ(parse_json(r.out, "stdout").at("answer"), expected) << c.at("name");
            ++n_cases;
        }
    }
    EXPECT_EQ(n_cases, 24);
}

TEST(Run, TakesThePromptFromStandardInput) {
    const CommandResult r = smelt_command("run " + large_model + " --temp 0 --no-think", "What is 12 + 30?");
    EXPECT_EQ(r.out, "12 + 30 = 42\n") << r.err;
    const CommandResult file =
        smelt_command("run " + model + " -p 'What is this?' -f - --json --temp 0 -n 4", "ripgrep");
    EXPECT_EQ(file.status, 0) << file.err;
}

TEST(Run, JsonCarriesAnswerThinkingAndCounts) {
    const CommandResult r =
        smelt_command("run " + large_model + " -p 'What is 12 + 30?' --temp 0 --think --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json j = parse_json(r.out, "stdout");
    EXPECT_EQ(j.at("answer"), "12 + 30 = 42");
    EXPECT_EQ(j.at("thinking"), "12 + 30 equals 42.");
    EXPECT_EQ(j.at("finish_reason"), "stop");
    EXPECT_EQ(j.at("usage").at("prompt_tokens"), 18);
    EXPECT_EQ(j.at("usage").at("completion_tokens"), 27);
}

TEST(Run, ThinkingHasABudget) {
    for (const char* flag : {"--thinking-budget", "--reasoning-budget"}) {
        const CommandResult r = smelt_command(
            "run " + large_model + " -p 'What is 12 + 30?' --temp 0 --think --json -n 60 " + flag + " 4");
        ASSERT_EQ(r.status, 0) << r.err;
        const Json j = parse_json(r.out, "stdout");
        EXPECT_EQ(j.at("thinking"), "12 +");
        EXPECT_NE(j.at("answer"), "");
    }
}

TEST(Run, SameSeedSameAnswer) {
    const std::string line = "run " + model + " -p 'Tell me something.' --temp 1.2 -n 24 --seed ";
    const std::string a = smelt_command(line + "7").out;
    EXPECT_EQ(smelt_command(line + "7").out, a);
    EXPECT_NE(smelt_command(line + "8").out, a);
}

TEST(Run, StopsBeforeStopStrings) {
    const CommandResult r =
        smelt_command("run " + large_model + " -p 'What is 12 + 30?' --temp 0 --no-think --stop '= '");
    EXPECT_EQ(r.out, "12 + 30 \n") << r.err;
}

TEST(Run, BadOptionsNameThemselves) {
    const CommandResult r = smelt_command("run " + model + " -p hi --top-p 7");
    EXPECT_EQ(r.status, 2);
    EXPECT_NE(r.err.find("--top-p"), std::string::npos) << r.err;
    EXPECT_NE(smelt_command("run " + model + " -p hi --device toaster").err.find("toaster"),
              std::string::npos);
}

TEST(Run, AContextThatDoesNotFitIsRefusedWithTheNumbers) {
    const CommandResult r = smelt_command("run " + large_model + " -p hi --ctx 1000000000");
    EXPECT_EQ(r.status, 1);
    EXPECT_NE(r.err.find("GB are needed"), std::string::npos) << r.err;
}

TEST(Logits, WritesTheSameArrayInChunks) {
    const std::string file = ::testing::TempDir() + "logits_test.npy";
    const auto bytes = [&](const std::string& options) {
        const CommandResult r = smelt_command("logits " + model + " --ids 5,17,3,9,200 -o " + file + options);
        EXPECT_EQ(r.status, 0) << r.err;
        return std::string(MappedFile(file).text());
    };
    const std::string whole = bytes("");
    EXPECT_EQ(whole.substr(0, 6), "\x93NUMPY");
    EXPECT_NE(whole.find("'shape': (5, 8192)"), std::string::npos);
    EXPECT_EQ(whole.size() % 64, 0u);
    EXPECT_EQ(bytes(" --chunk 2"), whole);
    EXPECT_EQ(smelt_command("logits " + model + " --ids 5,8192 -o " + file).status, 1);
    std::filesystem::remove(file);
}

}  // namespace
}  // namespace smelt
