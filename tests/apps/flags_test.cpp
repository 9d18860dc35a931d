// The flags of llama.cpp and vLLM, each of them, and what is made of the option table.
#include <gtest/gtest.h>
#include <unistd.h>

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
        for (const std::string& name : split(f.names)) {
            const char* value = f.value == PeerValue::no        ? ""
                                : f.value == PeerValue::maybe   ? " off"
                                : std::string(f.text) == "--kv" ? " q8_0"
                                                                : " 7";
            const std::string verb = f.verb == std::string("serve") ? "serve --port 0" : f.verb;
            const CommandResult r =
                smelt_command(fmt::format("{} {}{} /nonexistent/model", verb, name, value), "hi");
            const std::string what = fmt::format("{} {}: {}", f.verb, name, r.err);
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
