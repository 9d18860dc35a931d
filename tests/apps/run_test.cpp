// smelt run, logits and the command line as such, through the binary.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
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
    std::istringstream lines(help.out);
    for (std::string line; std::getline(lines, line);) {
        EXPECT_LE(line.size(), 100u) << line;
        if (!line.starts_with("  ") || line[2] == ' ' || line[2] == '-') continue;  // a verb begins a line
        const std::string verb = line.substr(2, line.find_first_of(" ,", 2) - 2);
        const CommandResult r = smelt_command(verb + " --help");
        EXPECT_EQ(r.status, 0) << verb;
        const size_t examples = r.out.find("xample");
        ASSERT_NE(examples, std::string::npos) << verb << " has no example";
        EXPECT_NE(r.out.find("smelt " + verb, examples), std::string::npos) << verb << " has no example";
        EXPECT_EQ(smelt_command("help " + verb).out, r.out);
        // Types are words, and lines fit a page.
        EXPECT_EQ(r.out.find("INT:"), std::string::npos) << r.out;
        for (const char* range : {" in [0", " in [1", " in [2", " in [-"})
            EXPECT_EQ(r.out.find(range), std::string::npos) << r.out;
        std::istringstream texts(r.out);
        for (std::string text; std::getline(texts, text);) EXPECT_LE(text.size(), 160u) << text;
        ++n_verbs;
    }
    EXPECT_GE(n_verbs, 20u);
    for (const char* group : {"Talk to models:", "Get models:", "Look inside:", "Measure and check:"})
        EXPECT_NE(help.out.find(group), std::string::npos) << group;
    EXPECT_NE(smelt_command("run --help").out.find("\nSampling:\n"), std::string::npos);
    EXPECT_EQ(smelt_command("version").out, smelt_command("--version").out);
}

// Words typed wrong: the line names the word, and the nearest right one.
TEST(CommandLine, SlipsAreNamedWithWhatWasMeant) {
    const std::pair<const char*, const char*> slips[] = {
        {"rnu models/x", "rnu: smelt has no such verb; did you mean smelt run?"},
        {"insp models/x", "did you mean smelt inspect?"},
        {"serv models/x", "did you mean smelt serve?"},
        {"qwertz", "qwertz: smelt has no such verb; smelt help lists them"},
        {"help rnu", "did you mean smelt run?"},
        {SMELT_MODELS, "expected a verb, found a path; smelt run "},
        {"", "expected a verb"},
        {"--verbos run", "did you mean --verbose?"},
        {"run x --tmep 0 -p hi", "--tmep: smelt run has no such option; did you mean --temp?"},
        {"run x --max_tokens 5", "did you mean --max-tokens?"},
        {"run x --max-tok 5", "did you mean --max-tokens?"},
        {"serve x --prot 80", "did you mean --port?"},
        {"run x -p hi --no-such-flag", "--no-such-flag: smelt run has no such option"},
        {"run x hi --flag", "--flag: smelt run has no such option"},
        {"run x -p hi there", "PROMPT and --prompt cannot go together"},
        {"run x hi there", "smelt run does not take \"there\"; put quotes around"},
        {"run x -p hi --temp warm", "--temp: expected a number, 0 to 100, found \"warm\""},
        {"run x -p hi --temp 200", "--temp: expected a number, 0 to 100, found \"200\""},
        {"run x -p hi --top-k 1.5", "--top-k: expected a whole number, -1 or more, found \"1.5\""},
        {"run x -p hi -n many", "--max-tokens: expected a whole number, -1 or more, found \"many\""},
        {"run x -p hi --seed soon", "--seed: expected a whole number"},
        {"run x -p hi --threads 5000", "--threads: expected a whole number, 0 to 1024, found \"5000\""},
        {"run x -p", "-p: a value is missing"},
        {"run x -p hi --temp", "--temp: a value is missing"},
        {"run x --temp 0 --temp 1", "--temp: given more than once"},
        {"run", "run: MODEL is missing"},
        {"run x -p hi --regex a --grammar b", "cannot go together"},
        {"run x -p hi --length-penalty 1", "--length-penalty needs --beams"},
        {"serve x --port 99999", "--port: expected a whole number, 0 to 65535"},
        {"serve a=x a=y", "two models have this name"},
        {"serve x/m.gguf y/m.gguf", "m: two models have this name"},
        {"quantize a b --format q9", "q9 is no number format"},
        {"inspect --tensor", "did you mean --tensors?"},
        {"bench x --runs 0", "--runs: expected a whole number, 1 to 1000"},
        {"stop", "stop: MODEL is missing"},
    };
    for (const auto& [line, expected] : slips) {
        const CommandResult r = smelt_command(line);
        EXPECT_EQ(r.status, 2) << line << ": " << r.err;
        EXPECT_NE(r.err.find(expected), std::string::npos) << line << ": " << r.err;
        EXPECT_EQ(std::ranges::count(r.err, '\n'), 1) << r.err;
        EXPECT_EQ(r.out, "") << line;
    }
}

// No host is asked, and nobody waits.
TEST(CommandLine, MissingPathsAreSaidAtOnce) {
    const auto started = std::chrono::steady_clock::now();
    const std::pair<const char*, const char*> paths[] = {
        {"run " SMELT_MODELS "/demo-5n -p hi",
         "no such file or folder; did you mean " SMELT_MODELS "/demo-5m?"},
        {"run nowhere/model.gguf -p hi", "there is no folder nowhere"},
        {"serve nowhere.gguf", "nowhere.gguf: no such file or folder"},
        {"show nowhere.gguf", "nowhere.gguf: no such file or folder"},
    };
    for (const auto& [line, expected] : paths) {
        const CommandResult r = smelt_command(line);
        EXPECT_EQ(r.status, 1) << line;
        EXPECT_NE(r.err.find(expected), std::string::npos) << line << ": " << r.err;
    }
    ::setenv("HF_ENDPOINT", "http://no-such-host.invalid", 1);
    const CommandResult offline = smelt_command("run Qwen/Qwen3-0.6B -p hi");
    ::unsetenv("HF_ENDPOINT");
    EXPECT_EQ(offline.status, 1);
    EXPECT_NE(offline.err.find("Qwen/Qwen3-0.6B: no such file or folder here, and from the hub: "),
              std::string::npos)
        << offline.err;
    EXPECT_LT(std::chrono::steady_clock::now() - started, std::chrono::seconds(14));
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
