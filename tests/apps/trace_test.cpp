// --trace through the binary: the file is a Chrome trace of every step, the table sums it up.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "apps/command.h"
#include "apps/serve_process.h"
#include "base/mapped_file.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-5m";

std::string trace_path() {
    return (std::filesystem::temp_directory_path() / fmt::format("smelt_trace_{}.json", ::getpid())).string();
}

// Reads the file and removes it; every event is one that viewers know.
Json read_trace() {
    const Json events = parse_json(std::string(MappedFile(trace_path()).text()), "trace");
    std::filesystem::remove(trace_path());
    std::set<double> streams;
    for (const Json& e : events) {
        const auto phase = e["ph"].get<std::string>();
        EXPECT_TRUE(phase == "X" || phase == "M") << e;
        if (phase == "M") {
            if (e["name"] == "thread_name") streams.insert(e["tid"].get<double>());
            continue;
        }
        EXPECT_TRUE(streams.contains(e["tid"].get<double>())) << e;
        EXPECT_GE(e["ts"].get<double>(), 0);
        EXPECT_GE(e["dur"].get<double>(), 0);
    }
    return events;
}

std::map<std::string, int> counts(const Json& events) {
    std::map<std::string, int> n;
    for (const Json& e : events) ++n[e["name"].get<std::string>()];
    return n;
}

TEST(Trace, ARunHasEveryOpOfEveryStep) {
    const CommandResult r = smelt_command("run " + model + " -p hello -n 5 --temp 0 --trace " + trace_path());
    ASSERT_EQ(r.status, 0) << r.err;
    const Json events = read_trace();
    std::map<std::string, int> n = counts(events);
    EXPECT_GE(n["step"], 5);
    EXPECT_EQ(n["Embed"], n["step"]);
    EXPECT_EQ(n["Attention"] % n["step"], 0);
    EXPECT_EQ(n["dropped_events"], 1);
    // Ops lie in the steps that have them, and say what they moved.
    std::map<int, std::pair<double, double>> steps;
    for (const Json& e : events) {
        if (e["name"] == "step")
            steps[e["args"]["step"].get<int>()] = {e["ts"].get<double>(),
                                                   e["ts"].get<double>() + e["dur"].get<double>()};
    }
    for (const Json& e : events) {
        if (e.value("cat", "") != "op") continue;
        const auto& [begin, end] = steps.at(e["args"]["step"].get<int>());
        EXPECT_GE(e["ts"].get<double>(), begin - 0.01);
        EXPECT_LE(e["ts"].get<double>() + e["dur"].get<double>(), end + 0.01);
        EXPECT_TRUE(e["args"]["shape"].get<std::string>().starts_with(e["name"].get<std::string>()));
        EXPECT_GT(e["args"]["bytes"].get<double>(), 0) << e;
        if (e["name"] == "Matmul") {
            EXPECT_GT(e["args"]["flops"].get<double>(), 0) << e;
        }
    }
    for (const char* text : {"Matmul", "Attention", "share", "GB/s", "GFLOP/s", "events"})
        EXPECT_NE(r.err.find(text), std::string::npos) << text << "\n" << r.err;
}

TEST(Trace, LogitsAndBenchHaveOneToo) {
    const std::string npy = trace_path() + ".npy";
    CommandResult r =
        smelt_command("logits " + model + " --ids 5,17,3 --output " + npy + " --trace " + trace_path());
    std::filesystem::remove(npy);
    ASSERT_EQ(r.status, 0) << r.err;
    EXPECT_EQ(counts(read_trace())["Embed"], 1);
    r = smelt_command("bench " + model + " -p 8 -n 4 -r 1 --json --trace " + trace_path());
    ASSERT_EQ(r.status, 0) << r.err;
    parse_json(r.out, "bench");  // stdout is as without
    // A run before the one that counts, and the step whose logits are hashed.
    EXPECT_EQ(counts(read_trace())["Embed"], 2 * (1 + 4) + 1);
}

TEST(Trace, TwoDevicesAreTwoThreads) {
    const std::string npy = trace_path() + ".npy";
    const CommandResult r =
        smelt_command("logits " + model + " --ids 5,17,3 --device cpu --device-map 1-=reference --output " +
                      npy + " --trace " + trace_path());
    std::filesystem::remove(npy);
    ASSERT_EQ(r.status, 0) << r.err;
    std::set<int> threads;
    for (const Json& e : read_trace()) {
        if (e["ph"] == "X") threads.insert(e["tid"].get<int>());
    }
    EXPECT_EQ(threads.size(), 2u);
}

TEST(Trace, AServerWritesItWhenItEnds) {
    Process p({model, "--port", "0", "-q", "--trace", trace_path()});
    ASSERT_FALSE(p.address().empty()) << p.errors();
    EXPECT_EQ(Client(p.port()).ask("POST", "/v1/completions", R"({"prompt":"a","max_tokens":5})").status,
              200);
    EXPECT_FALSE(std::filesystem::exists(trace_path()));
    p.signal(SIGTERM);
    EXPECT_EQ(p.wait(), 0);
    EXPECT_GE(counts(read_trace())["step"], 5);
}

TEST(Trace, AFileThatCannotBeWrittenIsNamedBeforeTheModelIsRead) {
    const CommandResult r = smelt_command("run " + model + " -p hello --trace /no/such/folder/trace.json");
    EXPECT_EQ(r.status, 1);
    EXPECT_NE(r.err.find("/no/such/folder"), std::string::npos) << r.err;
    EXPECT_EQ(r.out, "");
}

TEST(Trace, OfAnotherProcessIsRefused) {
    const CommandResult r = smelt_command("bench --serve http://127.0.0.1:1 --trace " + trace_path());
    EXPECT_EQ(r.status, 2);
    EXPECT_NE(r.err.find("--trace"), std::string::npos) << r.err;
    EXPECT_FALSE(std::filesystem::exists(trace_path()));
}

}  // namespace
}  // namespace smelt
