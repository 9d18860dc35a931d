// The backend library as a Triton server drives it: loaded by name, configured by JSON, several requests at a
// time. Includes nothing of smelt; what texts are expected comes from the command.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include <unistd.h>

#include "triton/host.h"

namespace {

namespace fs = std::filesystem;

const std::string model_folder = std::string(SMELT_MODELS) + "/demo-5m";
const std::string capital = "The capital of France is";

std::string parameter(const std::string& key, const std::string& value) {
    return "\"" + key + "\": {\"string_value\": \"" + value + "\"}";
}

// As Triton completes it: its own defaults are there.
std::string config(bool decoupled, const std::string& parameters = "",
                   const std::string& accelerators = "{}") {
    return R"({"name": "demo", "platform": "", "backend": "smelt", "runtime": "",
        "version_policy": {"latest": {"num_versions": 1}}, "max_batch_size": 8,
        "input": [{"name": "text_input", "data_type": "TYPE_STRING", "format": "FORMAT_NONE", "dims": [1],
            "is_shape_tensor": false, "allow_ragged_batch": false, "optional": false}],
        "output": [{"name": "text_output", "data_type": "TYPE_STRING", "dims": [1], "label_filename": "",
            "is_shape_tensor": false}],
        "batch_input": [], "batch_output": [],
        "optimization": {"priority": "PRIORITY_DEFAULT", "input_pinned_memory": {"enable": true},
            "output_pinned_memory": {"enable": true}, "gather_kernel_buffer_threshold": 0,
            "eager_batching": false, "execution_accelerators": )" +
           accelerators + R"(},
        "instance_group": [{"name": "demo_0", "kind": "KIND_CPU", "count": 1, "gpus": [], "secondary_devices": [],
            "profile": [], "passive": false, "host_policy": ""}],
        "default_model_filename": "", "cc_model_filenames": {}, "metric_tags": {}, "model_warmup": [],
        "parameters": {)" +
           parameter("MODEL_PATH", model_folder) + (parameters.empty() ? "" : ", " + parameters) + R"(},
        "model_transaction_policy": {"decoupled": )" +
           (decoupled ? "true" : "false") + "}}";
}

// What the command makes of the same text.
std::string expected(const std::string& prompt, int n) {
    const std::string command = std::string(SMELT_COMMAND) + " run " + model_folder + " --raw --prompt '" +
                                prompt + "' --max-tokens " + std::to_string(n) +
                                " --temperature 0 2>/dev/null";
    FILE* pipe = popen(command.c_str(), "r");
    std::string text;
    std::array<char, 4096> bytes;
    while (const size_t got = std::fread(bytes.data(), 1, bytes.size(), pipe)) text.append(bytes.data(), got);
    EXPECT_EQ(pclose(pipe), 0) << command;
    if (text.starts_with(prompt)) text.erase(0, prompt.size());
    if (text.ends_with('\n')) text.pop_back();
    return text;
}

class TritonTest : public ::testing::Test {
 protected:
    static void SetUpTestSuite() { host = new Host(SMELT_TRITON_LIBRARY); }
    static void TearDownTestSuite() { delete host; }
    void TearDown() override { host->unload(); }

    static void load(const std::string& text) { ASSERT_EQ(host->load(text, "/nowhere"), ""); }
    static TRITONBACKEND_Request greedy(const std::string& prompt, int64_t n) {
        TRITONBACKEND_Request r;
        r.text({prompt}).with("max_tokens", n).with("temperature", 0.0);
        return r;
    }
    static HostResponse answer(TRITONBACKEND_Request& r) {
        EXPECT_EQ(host->execute({&r}), "");
        EXPECT_TRUE(r.wait_for_release());
        EXPECT_EQ(r.n_releases, 1);
        EXPECT_FALSE(r.responses.empty());
        return r.responses.empty() ? HostResponse() : r.responses.back();
    }
    inline static Host* host = nullptr;
};

TEST_F(TritonTest, AnswersAsTheCommandDoes) {
    load(config(false));
    TRITONBACKEND_Request r = greedy(capital, 12);
    const HostResponse a = answer(r);
    EXPECT_EQ(a.error, -1) << a.error_text;
    EXPECT_EQ(r.responses.size(), 1u);
    EXPECT_EQ(a.flags, 1u);
    EXPECT_EQ(a.text(), expected(capital, 12));
    EXPECT_EQ(a.outputs.at("text_output").shape, (std::vector<int64_t>{1, 1}));
    EXPECT_EQ(a.outputs.at("num_output_tokens").bytes.size(), 4u);
    EXPECT_EQ(a.outputs.size(), 4u);
    EXPECT_EQ(host->instance().n_successes, 1);
    // As tensors in place of parameters, one output alone.
    TRITONBACKEND_Request tensors;
    const int32_t n = 12;
    const float zero = 0;
    tensors.text({capital});
    tensors.inputs.push_back(
        {"max_tokens", 8, {1, 1}, {std::string(reinterpret_cast<const char*>(&n), sizeof n)}});
    tensors.inputs.push_back(
        {"temperature", 11, {1, 1}, {std::string(reinterpret_cast<const char*>(&zero), sizeof zero)}});
    tensors.outputs = {"text_output"};
    const HostResponse b = answer(tensors);
    EXPECT_EQ(b.text(), a.text()) << b.error_text;
    EXPECT_EQ(b.outputs.size(), 1u);
}

TEST_F(TritonTest, ABatchGivesWhatEachGivesAlone) {
    load(config(false));
    const std::vector<std::string> prompts = {capital, "Once upon a time", "One two three",
                                              "The sum of 2 and 3"};
    std::vector<std::string> alone;
    for (const std::string& p : prompts) {
        TRITONBACKEND_Request r = greedy(p, 24);
        alone.push_back(answer(r).text());
    }
    std::vector<TRITONBACKEND_Request> together;
    for (int i = 0; i < 3; ++i) {
        for (const std::string& p : prompts) together.push_back(greedy(p, 24));
    }
    TRITONBACKEND_Request rows;
    rows.text(prompts).with("max_tokens", int64_t{24}).with("temperature", 0.0);
    std::vector<TRITONBACKEND_Request*> all = {&rows};
    for (auto& r : together) all.push_back(&r);
    ASSERT_EQ(host->execute(all), "");
    for (size_t i = 0; i < together.size(); ++i) {
        ASSERT_TRUE(together[i].wait_for_release());
        EXPECT_EQ(together[i].responses.at(0).text(), alone[i % prompts.size()]);
    }
    ASSERT_TRUE(rows.wait_for_release());
    for (size_t i = 0; i < prompts.size(); ++i)
        EXPECT_EQ(rows.responses.at(0).text("text_output", i), alone[i]) << rows.responses[0].error_text;
    EXPECT_EQ(host->instance().n_rows, 2 * prompts.size() + together.size());
}

TEST_F(TritonTest, ADecoupledModelStreams) {
    load(config(true));
    TRITONBACKEND_Request whole = greedy(capital, 24);
    const std::string text = answer(whole).text();
    EXPECT_EQ(whole.responses.size(), 1u) << "one response where none are asked for";
    TRITONBACKEND_Request r = greedy(capital, 24);
    r.with("stream", true);
    const HostResponse last = answer(r);
    EXPECT_GT(r.responses.size(), 5u);
    EXPECT_EQ(r.all_text(), text);
    for (size_t i = 0; i + 1 < r.responses.size(); ++i) EXPECT_EQ(r.responses[i].flags, 0u);
    EXPECT_EQ(last.flags, 1u);
    EXPECT_EQ(last.text("finish_reason"), "length");
}

TEST_F(TritonTest, ACancelledRequestEndsAndOthersGoOn) {
    load(config(true));
    TRITONBACKEND_Request endless = greedy(capital, 900), other = greedy("Once upon a time", 60);
    endless.with("stream", true).with("ignore_eos", true);
    other.with("ignore_eos", true);
    ASSERT_EQ(host->execute({&endless, &other}), "");
    ASSERT_TRUE(endless.wait_for_responses(2));
    endless.cancelled = true;
    const auto began = std::chrono::steady_clock::now();
    ASSERT_TRUE(endless.wait_for_release());
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
    EXPECT_EQ(endless.responses.back().error, 7) << "cancelled";
    EXPECT_EQ(endless.responses.back().flags, 1u);
    ASSERT_TRUE(other.wait_for_release());
    EXPECT_EQ(other.responses.back().error, -1);
    EXPECT_FALSE(other.responses.back().text().empty());
    EXPECT_EQ(host->instance().n_failures, 1);
}

TEST_F(TritonTest, FaultsBecomeResponses) {
    load(config(false));
    const auto refused = [&](TRITONBACKEND_Request r, const std::string& word) {
        const HostResponse a = answer(r);
        EXPECT_EQ(a.flags, 1u);
        EXPECT_GE(a.error, 0) << word;
        EXPECT_NE(a.error_text.find(word), std::string::npos) << a.error_text;
    };
    refused({}, "no text_input");
    TRITONBACKEND_Request broken;
    broken.text({capital});
    broken.inputs[0].buffers.pop_back();
    refused(broken, "text_input");
    TRITONBACKEND_Request hot = greedy(capital, 4);
    refused(hot.with("top_p", 7.0), "top_p");
    TRITONBACKEND_Request streamed = greedy(capital, 4);
    refused(streamed.with("stream", true), "decoupled");
    TRITONBACKEND_Request unknown = greedy(capital, 4);
    unknown.outputs = {"logits"};
    refused(unknown, "logits");
    TRITONBACKEND_Request half;
    half.text({capital});
    half.inputs.push_back({"temperature", 10, {1}, {std::string(2, '\0')}});  // FP16
    refused(half, "temperature");
    std::string words;
    for (int i = 0; i < 3000; ++i) words += "word ";
    refused(greedy(words, 4), "context");
    TRITONBACKEND_Request good = greedy(capital, 4);
    good.with("colour", std::string("blue"));
    EXPECT_NE(answer(good).parameters["warnings"].find("colour"), std::string::npos);
}

TEST_F(TritonTest, KeysOfTheConfigurationActOrAreRefused) {
    const auto refused = [&](const std::string& text, const std::string& word) {
        const std::string error = host->load(text, "/nowhere");
        EXPECT_NE(error.find(word), std::string::npos) << error;
    };
    refused(config(false, parameter("MODEL_QUANTISATION", "int4")), "did you mean MODEL_QUANTIZATION?");
    refused(config(false, parameter("MODEL_QUANTIZATION", "int3")), "parameters.MODEL_QUANTIZATION");
    refused(config(false, parameter("CONTEXT", "many")), "parameters.CONTEXT");
    refused(config(false, parameter("DEVICE", "abacus")), "abacus");
    const std::string mps =
        R"({"gpu_execution_accelerator": [{"name": "mps", "parameters": {"precision": "fp16", "use_unified_memory": "true"}}]})";
    const std::string amx =
        R"({"cpu_execution_accelerator": [{"name": "amx", "parameters": {"tile_size": "32", "quantization_support": "int4"}}]})";
    refused(config(false, "", amx), "cpu_execution_accelerator.amx");
    refused(config(false, "", R"({"gpu_execution_accelerator": [{"name": "tensorrt"}]})"), "tensorrt");
    refused(
        config(false, "", R"({"gpu_execution_accelerator": [{"name": "mps", "parameters": {"warp": "9"}}]})"),
        "warp");
    refused(config(false, "",
                   R"({"cpu_execution_accelerator": [{"name": "cpu", "parameters": {"isa": "abc"}}]})"),
            "abc");
    std::string sequences = config(false);
    sequences.insert(1, "\"sequence_batching\": {\"max_sequence_idle_microseconds\": 5}, ");
    refused(sequences, "sequence_batching");
    std::string wrong_output = config(false);
    wrong_output.replace(wrong_output.find("\"text_output\""), 13, "\"logits\"");
    refused(wrong_output, "logits");
    refused("{", "config");
    // On a machine without Metal the document's configuration needs its word for falling back.
    refused(config(false, "", mps), "PYTORCH_ENABLE_MPS_FALLBACK");
    const std::string both =
        R"({"gpu_execution_accelerator": [{"name": "mps", "parameters": {"use_unified_memory": "true"}}],
        "cpu_execution_accelerator": [{"name": "amx", "parameters": {"tile_size": "32"}}]})";
    load(config(
        false, parameter("MODEL_QUANTIZATION", "int4") + ", " + parameter("PYTORCH_ENABLE_MPS_FALLBACK", "1"),
        both));
    std::string log;
    for (const std::string& line : host_log()) log += line + "\n";
    EXPECT_NE(log.find("mps: the device metal is not here, the CPU computes"), std::string::npos) << log;
    EXPECT_NE(log.find("without effect: tile_size"), std::string::npos) << log;
    EXPECT_NE(log.find("q4_k.gguf"), std::string::npos) << "the weights are quantized: " << log;
    TRITONBACKEND_Request r = greedy(capital, 8);
    EXPECT_EQ(answer(r).error, -1);
}

// A folder of a repository: MODEL/1 with the model in it, no tensors declared.
TEST_F(TritonTest, CompletesAConfigurationAndFindsTheModel) {
    const fs::path folder = fs::temp_directory_path() / ("smelt_triton_" + std::to_string(getpid()));
    fs::create_directories(folder / "1");
    for (const auto& entry : fs::directory_iterator(model_folder))
        fs::create_symlink(entry.path(), folder / "1" / entry.path().filename());
    const std::string bare = R"({"name": "demo", "backend": "smelt", "max_batch_size": 4})";
    EXPECT_EQ(host->load(bare, folder.string(), true), "");
    EXPECT_NE(host->model().config.find("text_input"), std::string::npos);
    EXPECT_NE(host->model().config.find("text_output"), std::string::npos);
    TRITONBACKEND_Request r = greedy(capital, 4);
    EXPECT_EQ(answer(r).error, -1);
    host->unload();
    fs::remove_all(folder / "1");
    EXPECT_NE(host->load(bare, folder.string()).find("found 0 files"), std::string::npos);
    fs::remove_all(folder);
}

TEST_F(TritonTest, UnloadingWaitsForWhatRuns) {
    load(config(true));
    std::vector<TRITONBACKEND_Request> many;
    for (int i = 0; i < 12; ++i) many.push_back(greedy(capital, 30));
    std::vector<TRITONBACKEND_Request*> all;
    for (auto& r : many) all.push_back(&r);
    ASSERT_EQ(host->execute(all), "");
    host->unload();
    for (auto& r : many) {
        EXPECT_EQ(r.n_releases, 1);
        EXPECT_EQ(r.n_factories, 0);
        EXPECT_EQ(r.responses.back().flags, 1u);
    }
}

}  // namespace
