// smelt bench --suite and --compare, report and check-api, through the binary.
#include <gtest/gtest.h>

#include <fstream>
#include <set>

#include "apps/command.h"
#include "apps/serve_process.h"
#include "base/json.h"
#include "base/mapped_file.h"

namespace smelt {
namespace {

const std::string model = SMELT_MODELS "/demo-5m";
const std::string bench_model = fmt::format("bench {}", model);

class SuiteTest : public testing::Test {
 protected:
    SuiteTest()
        : folder_(std::filesystem::temp_directory_path() / fmt::format("smelt_suite_{}", ::getpid())) {
        std::filesystem::create_directories(folder_);
    }
    ~SuiteTest() override { std::filesystem::remove_all(folder_); }

    std::string path(const char* name) const { return (folder_ / name).string(); }
    void write(const char* name, const std::string& text) const { std::ofstream(folder_ / name) << text; }
    static Json read(const std::string& file) { return parse_json(MappedFile(file).text(), file); }

    std::filesystem::path folder_;
};

void expect_series(const Json& row, const char* key) {
    ASSERT_TRUE(row.contains(key)) << key << " in " << row;
    EXPECT_GT(row[key]["median"].get<double>(), 0) << key;
    EXPECT_LE(row[key]["min"], row[key]["median"]) << key;
    EXPECT_LE(row[key]["median"], row[key]["max"]) << key;
}

TEST_F(SuiteTest, MeasuresAllKindsOnSeveralDevicesInOneResult) {
    const CommandResult r = smelt_command(bench_model +
                                          " --suite --quick --seconds 40 -r 2 --threads 2 --device cpu "
                                          "--formats q8_0,mxfp4,q8_k --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json result = parse_json(r.out, "suite");
    for (const char* key : {"suite", "smelt", "started", "command", "settings", "machine", "devices",
                            "models", "plan", "rows", "ops", "skipped", "seconds"})
        EXPECT_TRUE(result.contains(key)) << key;
    EXPECT_GT(result["machine"]["physical_cores"].get<int>(), 0);
    EXPECT_GT(result["machine"]["read_bytes_per_s"].get<double>(), 1e8);
    EXPECT_EQ(result["models"][0]["name"], "demo-5m");

    std::set<std::string> kinds, strategies, cases;
    for (const Json& row : result["rows"]) {
        kinds.insert(row["kind"]);
        if (row.contains("strategy")) strategies.insert(row["strategy"]);
        if (row.contains("case")) cases.insert(row["case"]);
        expect_series(row, "seconds");
        if (row["kind"] == "start") continue;
        expect_series(row, "tokens_per_s");
        expect_series(row, "ttft_ms");
        EXPECT_GT(row["cpu_percent"]["median"].get<double>(), 0);
        EXPECT_LE(row["cpu_percent"]["median"].get<double>(), 101);
        EXPECT_GT(row["weight_bytes"].get<double>(), 1e6);
        EXPECT_GT(row["kv_bytes"].get<double>(), 0);
        EXPECT_EQ(row["cached_prompt"], 0) << row;  // runs repeat their prompts, and count none of them twice
        EXPECT_GT(row["resident_bytes"].get<double>(), 1e6);
        if (row["kind"] != "case") {
            EXPECT_EQ(row["generated"].get<int>(), row["answer"].get<int>() * row["streams"].get<int>())
                << row;
        }
    }
    EXPECT_EQ(kinds, (std::set<std::string>{"prompt", "answer", "streams", "strategy", "case", "format",
                                            "threads", "start"}));
    EXPECT_EQ(strategies, (std::set<std::string>{"greedy", "sampling", "top-k", "top-p", "beam"}));
    for (const char* name : {"question-1", "question-5", "short", "medium", "long"})
        EXPECT_TRUE(cases.contains(name));
    EXPECT_FALSE(result["ops"].empty());
    // A format that is not written is no failure of the others.
    EXPECT_NE(to_string(result["skipped"]).find("q8_k"), std::string::npos) << result["skipped"];
}

TEST_F(SuiteTest, DevicesAreComparedWithTheFirst) {
    const CommandResult r =
        smelt_command(bench_model + " --suite --quick --only strategy -r 1 --device reference,cpu --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json result = parse_json(r.out, "suite");
    EXPECT_EQ(result["devices"].size(), 2u);
    int n = 0;
    for (const Json& row : result["rows"]) {
        EXPECT_EQ(row.contains("speed_up"), row["device"] == "cpu") << row;
        if (row["device"] != "cpu") continue;
        EXPECT_GT(row["speed_up"].get<double>(), 1) << row;
        ++n;
    }
    EXPECT_EQ(n, 5);
}

TEST_F(SuiteTest, TheBusiestCardIsTold) {
    ::setenv("LD_LIBRARY_PATH", SMELT_FAKE_NVML, 1);
    const CommandResult r =
        smelt_command(bench_model + " --suite --quick --only strategy -r 1 --device cpu --json");
    ::unsetenv("LD_LIBRARY_PATH");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json result = parse_json(r.out, "suite");
    EXPECT_EQ(result["machine"]["gpu"], "Card of a test, Card of a test");
    for (const Json& row : result["rows"]) {
        EXPECT_EQ(row["gpu_percent"]["median"], 83) << row;
        EXPECT_EQ(row["watts"]["median"], 412) << row;
    }
}

TEST_F(SuiteTest, AnswersStandBesideTheNumbers) {
    const CommandResult r = smelt_command(
        bench_model + " " SMELT_MODELS "/demo-23m --suite --quick --only case -r 1 --json --device cpu");
    ASSERT_EQ(r.status, 0) << r.err;
    int n_together = 0;
    const Json result = parse_json(r.out, "suite");
    for (const Json& row : result["rows"]) {
        EXPECT_FALSE(row["question"].get<std::string>().empty());
        EXPECT_FALSE(row["text"].get<std::string>().empty()) << row;
        EXPECT_LE(row["generated"], row["answer"]);
        n_together += row.value("together", false) ? 1 : 0;
    }
    EXPECT_EQ(n_together, 6);  // three lengths from each of two models at once
}

TEST_F(SuiteTest, GoesOnAfterItWasKilled) {
    const std::string file = path("result.json");
    const std::string line =
        bench_model + " --suite --quick --only prompt,answer,strategy -r 2 --device cpu --resume " + file;
    const std::string background = fmt::format("{} {} >/dev/null 2>&1 & echo $!", SMELT_BINARY, line);
    std::FILE* shell = ::popen(background.c_str(), "r");
    int pid = 0;
    ASSERT_EQ(std::fscanf(shell, "%d", &pid), 1);
    // Killed as soon as there is a result or two.
    for (int i = 0; i < 400 && !std::filesystem::exists(file); ++i) ::usleep(25'000);
    ASSERT_TRUE(std::filesystem::exists(file));
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    ::pclose(shell);
    ::usleep(200'000);
    const Json before = read(file);
    ASSERT_GE(before["rows"].size(), 1u);

    const CommandResult r = smelt_command(line + " --csv");
    ASSERT_EQ(r.status, 0) << r.err;
    EXPECT_NE(r.err.find("results already"), std::string::npos) << r.err;
    const Json after = read(file);
    EXPECT_EQ(after["rows"].size(), 12u) << r.err;
    for (size_t i = 0; i < before["rows"].size(); ++i) EXPECT_EQ(after["rows"][i], before["rows"][i]);
    EXPECT_TRUE(r.out.starts_with("kind,model,device,")) << r.out;
    EXPECT_EQ(std::ranges::count(r.out, '\n'), 13);

    // Nothing is left to do, and other settings are another result.
    EXPECT_EQ(smelt_command(line).status, 0);
    EXPECT_EQ(read(file)["rows"], after["rows"]);
    const CommandResult other = smelt_command(line + " --kv f32");
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.err.find(file), std::string::npos) << other.err;
}

TEST_F(SuiteTest, SaysWhatWillNotBeMeasured) {
    const CommandResult r =
        smelt_command(bench_model + " --suite --only prompt --seconds 1 -r 9 --device cpu --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json result = parse_json(r.out, "suite");
    EXPECT_LT(result["seconds"].get<double>(), 30);
    // Each case of the ladder is measured or has a reason; those of the plan are measured.
    EXPECT_EQ(result["plan"]["cases"].get<size_t>(), result["rows"].size()) << result["skipped"];
    EXPECT_EQ(result["rows"].size() + result["skipped"].size(), 5u);
    for (const Json& s : result["skipped"]) EXPECT_NE(to_string(s).find("time"), std::string::npos);
}

TEST_F(SuiteTest, AShapeHasNoQuestions) {
    const CommandResult r = smelt_command(
        "bench --shape qwen3-0.6b --layers 2 --format q4_0 --suite --quick --only prompt,case,format -r 1 "
        "--formats q8_0 --device cpu --seconds 20 --json");
    ASSERT_EQ(r.status, 0) << r.err;
    const Json result = parse_json(r.out, "suite");
    for (const Json& row : result["rows"]) EXPECT_NE(row["kind"], "case");
    EXPECT_GE(result["rows"].size(), 3u);
}

TEST_F(SuiteTest, FaultsAreNamed) {
    write("other.json", "{\"rows\": []}");
    write("half.json", "{\"suite\": 1, \"rows\": 7}");
    const std::pair<std::string, std::string> lines[] = {
        {"bench --suite", "--suite"},
        {bench_model + " --quick", "--quick"},
        {bench_model + " " + model + " --suite", "different names"},
        {bench_model + " --suite --device nothing", "nothing"},
        {bench_model + " --suite --device cpu,cpu", "--device"},
        {bench_model + " --suite --only weather", "weather"},
        {bench_model + " --suite --formats q99", "q99"},
        {bench_model + " --suite --ops", "--ops"},
        {"bench /no/such/model --suite --quick", "/no/such/model"},
        {bench_model + " --suite --quick --resume " + path("other.json"), "other.json"},
        {bench_model + " --suite --quick --resume " + path("half.json"), "half.json: expected the result"},
        {"bench --compare http://127.0.0.1:1", "127.0.0.1:1"},
        {"bench --compare https://127.0.0.1:1", "https"},
        {"bench --compare http://127.0.0.1:1 --shape qwen3-4b", "--shape"},
        {"report " + path("other.json") + " -o " + path("out"), "other.json"},
        {"report /no/such/file -o " + path("out"), "/no/such/file"},
        {fmt::format("check-api http://127.0.0.1:1 {}", model), "127.0.0.1:1"},
        {"check-api http://127.0.0.1:1", "check-api"},
        {"check-api http://127.0.0.1:1 --against " + path("other.json"), "other.json"},
    };
    for (const auto& [line, word] : lines) {
        const CommandResult r = smelt_command(line);
        EXPECT_TRUE(r.status == 1 || r.status == 2) << line << ": " << r.status << r.err;
        EXPECT_NE(r.err.find(word), std::string::npos) << line << ": " << r.err;
        EXPECT_EQ(r.out, "") << line;
    }
}

TEST_F(SuiteTest, ServersGetTheSamePromptsInTurn) {
    Process small({model, "--port", "0", "-q"}), large({SMELT_MODELS "/demo-23m", "--port", "0", "-q"});
    ASSERT_FALSE(small.address().empty()) << small.errors();
    ASSERT_FALSE(large.address().empty()) << large.errors();
    std::filesystem::create_directories(folder_ / "prompts");
    write("prompts/2.txt", "A house is a building. People live in it.");
    write("prompts/10.txt", "The sea is wide. Ships cross it. Fish live in it, and people go there to swim.");
    const CommandResult r = smelt_command(fmt::format(
        "bench {} --compare small={} large={} --prompts {} --tokens 12 -r 2 --json --prompt-test {}", model,
        small.address(), large.address(), path("prompts"), path("out")));
    ASSERT_EQ(r.status, 0) << r.err;
    const Json rows = parse_json(r.out, "compare")["rows"];
    ASSERT_EQ(rows.size(), 4u);
    EXPECT_EQ(rows[0]["program"], "small");
    EXPECT_EQ(rows[1]["program"], "large");
    EXPECT_EQ(rows[0]["prompt"], rows[1]["prompt"]);  // one tokenizer counts for both
    EXPECT_LT(rows[0]["prompt"], rows[2]["prompt"]);  // 2.txt is before 10.txt
    for (const Json& row : rows) {
        expect_series(row, "ttft_ms");
        expect_series(row, "tokens_per_s");
        expect_series(row, "prefill_tokens_per_s");
        EXPECT_GT(row["generated"].get<int>(), 0);
        EXPECT_GT(row["usage"]["prompt_tokens"].get<int>(), row["prompt"].get<int>());  // with the template
    }
    // prompt-test's own files, which the report reads as the JSON.
    std::ofstream(path("compare.json")) << r.out;
    std::string files = path("compare.json");
    int n = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "out")) {
        EXPECT_TRUE(entry.path().filename().string().starts_with("report-demo_"));
        files += fmt::format(" {}", entry.path().string());
        ++n;
    }
    EXPECT_EQ(n, 2);
    const CommandResult report = smelt_command("report " + files + " -o " + path("report"));
    ASSERT_EQ(report.status, 0) << report.err;
    for (const char* plot : {"ttft-by-prompt.svg", "speed-by-prompt.svg", "report.html"})
        EXPECT_TRUE(std::filesystem::exists(folder_ / "report" / plot)) << plot;
}

TEST_F(SuiteTest, AServerIsCheckedAgainstItsModelAndAgainstARecord) {
    Process server({model, "--port", "0", "-q"});
    ASSERT_FALSE(server.address().empty()) << server.errors();
    const std::string url = server.address();
    CommandResult r =
        smelt_command(fmt::format("check-api {} {} --json --record {}", url, model, path("answers.json")));
    ASSERT_EQ(r.status, 0) << r.out << r.err;
    Json verdict = parse_json(r.out, "check");
    EXPECT_TRUE(verdict["agrees"]);
    EXPECT_EQ(verdict["answers"].size(), 5u);
    for (const Json& a : verdict["answers"]) {
        EXPECT_GT(a["same_tokens"].get<int>(), 3) << a;
        EXPECT_EQ(a["same_tokens"], a["expected_tokens"]) << a;
        EXPECT_LT(a["worst_logprob_difference"].get<double>(), 1e-3) << a;
    }
    EXPECT_EQ(smelt_command(fmt::format("check-api {} --against {}", url, path("answers.json"))).status, 0);

    // Another model gives others, and one whose numbers are a little off is seen by them alone.
    r = smelt_command(fmt::format("check-api {} " SMELT_MODELS "/demo-23m", url));
    EXPECT_EQ(r.status, 3) << r.out << r.err;
    EXPECT_NE(r.out.find("differs"), std::string::npos);
    Json record = read(path("answers.json"));
    for (Json& token : record["answers"][1]["tokens"])
        token["logprob"] = token["logprob"].get<double>() - 0.5;
    std::ofstream(path("answers.json")) << record;
    r = smelt_command(fmt::format("check-api {} --against {} --json", url, path("answers.json")));
    EXPECT_EQ(r.status, 3);
    verdict = parse_json(r.out, "check");
    EXPECT_TRUE(verdict["answers"][0]["agrees"]);
    EXPECT_FALSE(verdict["answers"][1]["agrees"]);
    EXPECT_NEAR(verdict["answers"][1]["mean_logprob_difference"].get<double>(), 0.5, 0.01);
}

}  // namespace
}  // namespace smelt
