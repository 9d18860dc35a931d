// The flags of llama.cpp and vLLM, each of them, and what is made of the option table.
#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <sstream>

#include "apps/command.h"
#include "apps/peer_flags.h"
#include "base/mapped_file.h"
#include "fmt/core.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-23m";

std::vector<std::string> split(const char* list) {
    std::vector<std::string> words;
    std::istringstream in(list);
    for (std::string word; std::getline(in, word, ',');) words.push_back(word);
    return words;
}

// No flag of the table is one of ours already, or twice there, and what it is translated to exists.
TEST(PeerFlags, EachDoesWhatTheTableSays) {
    ::setenv("HF_HUB_OFFLINE", "1", 1);
    size_t n = 0;
    for (const PeerFlag& f : peer_flags()) {
        std::vector<std::pair<std::string, std::string>> spellings;  // verb and flag
        for (const std::string& verb : split(f.verbs))
            for (const std::string& name : split(f.names)) spellings.emplace_back(verb, name);
        for (const auto& [verb_name, name] : spellings) {
            const char* value = f.value == PeerValue::no                   ? ""
                                : f.value == PeerValue::maybe              ? " off"
                                : f.value == PeerValue::many               ? " 7 8 --port 0"
                                : std::string(f.text) == "--kv"            ? " q8_0"
                                : name == "--spec-type"                    ? " ngram-simple"
                                : std::string(f.text) == "--speculate"     ? " '{\"method\": \"ngram\"}'"
                                : std::string(f.text) == "--chat-template" ? " " SMELT_DOCS "/SERVER.md"
                                : std::string(f.text) == "--chat-template-kwargs" ? " '{\"a\": 1}'"
                                : name.ends_with("-file") || name == "-jf" ? " " SMELT_DOCS "/SERVER.md"
                                                                           : " 7";
            const std::string verb =
                verb_name == "serve" && f.value != PeerValue::many ? "serve --port 0" : verb_name;
            const CommandResult r =
                smelt_command(fmt::format("{} {}{} /nonexistent/model", verb, name, value), "hi");
            const std::string what = fmt::format("{} {}: {}", verb_name, name, r.err);
            switch (f.effect) {
                case PeerEffect::same:
                    EXPECT_EQ(r.status, 1) << what;
                    EXPECT_EQ(r.err.find("no effect"), std::string::npos) << what;
                    break;
                case PeerEffect::none:
                    EXPECT_EQ(r.status, 1) << what;
                    EXPECT_NE(r.err.find(fmt::format("{} has no effect: {}", name, f.text)),
                              std::string::npos)
                        << what;
                    EXPECT_NE(r.err.find("/nonexistent/model"), std::string::npos) << what;
                    break;
                case PeerEffect::refused:
                    EXPECT_EQ(r.status, 2) << what;
                    EXPECT_NE(r.err.find(fmt::format("{}: {}", name, f.text)), std::string::npos) << what;
                    break;
            }
            for (const std::string& silent : split(f.silent)) {
                const CommandResult s =
                    smelt_command(fmt::format("{} {} {} /nonexistent/model", verb, name, silent), "hi");
                EXPECT_EQ(s.status, 1) << name << " " << silent;
                EXPECT_EQ(std::ranges::count(s.err, '\n'), 1) << s.err;
            }
            ++n;
        }
    }
    EXPECT_GT(n, 120u);
}

// The flags that people's scripts have most, one by one: what they do, or the way out.
TEST(PeerFlags, EachActsOrSaysTheWayOut) {
    const std::string ask = "run " + model + " --temp 0 --no-think -q -p 'What is 12 + 30?' ";
    const auto answer = [&](const std::string& flags) {
        const CommandResult r = smelt_command(ask + flags);
        EXPECT_EQ(r.status, 0) << flags << ": " << r.err;
        EXPECT_EQ(r.err, "") << flags;
        return r.out;
    };
    const std::string plain = answer("");
    EXPECT_EQ(plain, "12 + 30 = 42\n");
    // A penalty on all that was said makes another text of it.
    EXPECT_NE(answer("--presence-penalty 100 -n 24"), plain);
    EXPECT_NE(answer("--frequency-penalty 100 -n 24"), plain);
    EXPECT_EQ(answer("--repeat-penalty 50 --repeat-last-n 0"), plain) << "it looks at no token";
    EXPECT_NE(answer("--repeat-penalty 50 --repeat-last-n 64 -n 24"), plain);
    const std::string file = testing::TempDir() + "smelt_flags.gbnf";
    std::ofstream(file) << "root ::= \"yes\" | \"no\"\n";
    EXPECT_TRUE((std::set<std::string>{"yes\n", "no\n"}.contains(answer("--grammar-file " + file))));
    EXPECT_TRUE(
        (std::set<std::string>{"true\n", "false\n"}.contains(answer("-j '{\"type\": \"boolean\"}'"))));
    std::ofstream(file) << "{\"type\": \"boolean\"}";
    EXPECT_TRUE((std::set<std::string>{"true\n", "false\n"}.contains(answer("-jf " + file))));
    // A template that asks something else.
    std::ofstream(file) << "<|im_start|>user\nWhat is 2 + 2?<|im_end|>\n<|im_start|>assistant\n{{ tail }}";
    EXPECT_NE(answer("--chat-template-file " + file +
                     " --chat-template-kwargs '{\"tail\": "
                     "\"<think>\\n\\n</think>\\n\\n\"}'")
                  .find('4'),
              std::string::npos);
    EXPECT_NE(answer("-no-cnv -n 4"), plain) << "no template";
    EXPECT_EQ(answer("-r 30"), "12 + \n");
    EXPECT_EQ(answer("--keep -1"), plain);
    EXPECT_EQ(answer("-md " SMELT_MODELS "/demo-5m --draft-max 4 --draft-n-min 1"), plain);
    EXPECT_EQ(answer("--spec-type ngram-simple --lookup-min 1"), plain);

    const std::pair<const char*, const char*> texts[] = {
        {"--samplers 'top_k;temperature'", "the order is bias, penalties"},
        {"--keep 5", "--keep has no effect: the context is never shifted"},
        {"-md /nonexistent/draft.gguf", "/nonexistent/draft.gguf"},
        {"--spec-type eagle3", "eagle3: expected none or ngram-simple"},
        {"--speculate eagle", "eagle"},
        {"--grammar-file /nonexistent", "/nonexistent: no such file"},
        {"--chat-template chatml", "expected a Jinja template or the file of one, found \"chatml\""},
        {"--chat-template-kwargs 5", "expected a JSON object"},
        {"--rope-scaling '{\"factor\": 2}'", "expected rope_type"},
        {"--rope-scaling '{\"rope_type\": \"yarn\", \"colour\": 2}'", "colour: expected rope_type, factor"},
    };
    for (const auto& [flags, expected] : texts) {
        const CommandResult r = smelt_command("run " + model + " -p hi -n 1 " + flags);
        EXPECT_NE(r.err.find(expected), std::string::npos) << flags << ": " << r.err;
    }
    // Three ways to write one scaling.
    const auto context = [&](const std::string& flags) {
        return smelt_command("run " + model + " -p hi -n 1 --json " + flags).status;
    };
    EXPECT_EQ(context("--rope-scaling yarn,factor=2,original=512"), 0);
    EXPECT_EQ(context("--rope-scaling '{\"rope_type\": \"yarn\", \"factor\": 2.0, "
                      "\"original_max_position_embeddings\": 512}'"),
              0);
    EXPECT_EQ(context("--rope-scaling yarn --rope-scale 2 --yarn-orig-ctx 512"), 0);
    EXPECT_NE(smelt_command("run " + model + " -p hi -n 1 --debug").err.find("prompt of "),
              std::string::npos);
    ::setenv("HF_HUB_OFFLINE", "1", 1);
    const CommandResult hub = smelt_command("run -hf ggml-org/none-GGUF:Q8_0 -p hi");
    EXPECT_EQ(hub.status, 1);
    EXPECT_NE(hub.err.find("ggml-org/none-GGUF:Q8_0 is not here"), std::string::npos) << hub.err;
}

TEST(PeerFlags, LinesOfLlamaCli) {
    const std::string ask = "run -m " + model + " -p 'What is 12 + 30?' --temp 0 --no-think";
    const CommandResult ours = smelt_command(ask);
    ASSERT_EQ(ours.status, 0) << ours.err;
    const CommandResult theirs = smelt_command(
        ask +
        " -ngl 99 --ctx-size=512 -n 64 -fa on -ctk q8_0 -ctv f16 -st --repeat-penalty 1.0 -s 1 -t 1 -b 2048");
    EXPECT_EQ(theirs.status, 0) << theirs.err;
    EXPECT_EQ(theirs.out, ours.out);
    EXPECT_NE(theirs.err.find("-ngl has no effect"), std::string::npos) << theirs.err;
    EXPECT_EQ(theirs.err.find("-fa"), std::string::npos) << "on is what holds anyway: " << theirs.err;
    EXPECT_EQ(smelt_command(ask + " --n-predict 1").out, "1\n");
    // What stands behind an option of ours, or behind --, is nobody's flag.
    EXPECT_EQ(smelt_command("run " + model + " --temp 0 -n 2 -p --no-jinja").status, 0);
    EXPECT_EQ(smelt_command("run " + model + " --temp 0 -n 2 -- --no-jinja").status, 0);
    EXPECT_EQ(smelt_command("run " + model + " -p hi --ctx-size").status, 2);
    EXPECT_EQ(smelt_command("run " + model + " -p hi -ctk q9_9").status, 2);
    EXPECT_EQ(smelt_command("run " + model + " -p hi --no-such-flag").status, 2);
}

TEST(Manual, FlagsPageIsCurrent) {
    const CommandResult r = smelt_command("manual --flags");
    EXPECT_EQ(r.status, 0);
    EXPECT_TRUE(r.out == MappedFile(SMELT_DOCS "/FLAGS.md").text())
        << "run: smelt manual --flags > docs/FLAGS.md";
}

TEST(Manual, APageForEachVerb) {
    const std::filesystem::path folder =
        std::filesystem::temp_directory_path() / fmt::format("smelt_man_{}", ::getpid());
    ASSERT_EQ(smelt_command("manual " + folder.string()).status, 0);
    const std::string overview(MappedFile(folder / "smelt.1").text());
    size_t n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string name = entry.path().stem().string(), text(MappedFile(entry.path()).text());
        EXPECT_TRUE(text.starts_with(".TH ")) << name;
        if (name == "smelt") continue;
        EXPECT_NE(overview.find("smelt\\-" + name.substr(6)), std::string::npos) << name;
        ++n;
    }
    EXPECT_GE(n, 15u);
    std::filesystem::remove_all(folder);
    EXPECT_EQ(smelt_command("manual").status, 2);
    EXPECT_EQ(smelt_command("completion tcsh").status, 2);
}

}  // namespace
}  // namespace smelt
