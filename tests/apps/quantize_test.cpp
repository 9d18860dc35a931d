// `smelt quantize` and `smelt eval` as a user types them.
#include <gtest/gtest.h>

#include <algorithm>

#include "apps/command.h"
#include "base/json.h"

namespace smelt {
namespace {

namespace fs = std::filesystem;

const std::string model = SMELT_MODELS "/demo-5m";

class Quantize : public testing::Test {
 protected:
    Quantize() : folder_(fs::temp_directory_path() / ("smelt_quantize_" + std::to_string(::getpid()))) {
        fs::create_directories(folder_);
        // A few windows of something like the text that the model knows.
        std::ofstream text(path("text.txt"));
        for (int i = 0; i < 300; ++i) {
            text << "The package number " << i
                 << " contains the files that are needed to build programs with library " << i * 7 % 13
                 << ".\n";
        }
    }
    ~Quantize() override { fs::remove_all(folder_); }
    std::string path(const std::string& name) const { return (folder_ / name).string(); }
    static Json json(const CommandResult& r) {
        EXPECT_EQ(r.status, 0) << r.err;
        return parse_json(r.out.empty() ? "null" : r.out, "stdout");
    }
    Json eval(const std::string& file) const {
        return json(smelt_command("eval " + file + " --reference " + model + " --text " + path("text.txt") +
                                  " --window 128 --windows 4 --json"));
    }
    fs::path folder_;
};

TEST_F(Quantize, NamesInAnySpellingAndSizesThatFall) {
    double last_kl = 0;
    uint64_t last_bytes = UINT64_MAX;
    for (const char* name : {"Q8_0", "int4", "q3-k-s", "Q2_K"}) {
        const std::string file = path(std::string(name) + ".gguf");
        const Json made =
            json(smelt_command("quantize " + model + " --format " + name + " -o " + file + " --json"));
        EXPECT_LT(made["bytes"].get<uint64_t>(), last_bytes) << name;
        EXPECT_GT(made["median_error"].get<double>(), 0) << name;
        EXPECT_LE(made["median_error"].get<double>(), made["largest_error"].get<double>()) << name;
        EXPECT_EQ(made["bytes"].get<uint64_t>(), fs::file_size(file));
        const Json score = eval(file);
        EXPECT_EQ(score["bytes"], made["bytes"]);
        EXPECT_GT(score["kl_mean"].get<double>(), last_kl) << name;
        last_kl = score["kl_mean"].get<double>();
        last_bytes = made["bytes"].get<uint64_t>();
    }
    EXPECT_GT(last_kl, 0.01);
}

TEST_F(Quantize, EvalSaysTheSameWithAnyNumberOfThreadsAndNothingOfTheOriginal) {
    const Json same = eval(model);
    EXPECT_EQ(same["kl_mean"], 0);
    EXPECT_EQ(same["top1"], 1);
    EXPECT_EQ(same["perplexity"], same["reference_perplexity"]);
    EXPECT_EQ(same["tokens"], 4 * 63);
    EXPECT_EQ(same["positions"].size(), 8u);
    EXPECT_EQ(same["texts"][0]["windows"], 4);
    const std::string line =
        "eval " + model + " --text " + path("text.txt") + " --window 128 --windows 2 --json -t ";
    EXPECT_EQ(smelt_command(line + "1").out, smelt_command(line + "3").out);
}

TEST_F(Quantize, RecipesAreWrittenAndRead) {
    const std::string first = path("a.gguf"), second = path("b.gguf"), recipe = path("r.toml");
    json(smelt_command("quantize " + model + " -f q4_k_m -o " + first + " --no-eval --json --save-recipe " +
                       recipe));
    json(smelt_command("quantize " + model + " --recipe " + recipe + " -o " + second + " --no-eval --json"));
    const auto bytes = [](const std::string& file) {
        std::ifstream in(file, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    EXPECT_EQ(bytes(first), bytes(second));
}

TEST_F(Quantize, CalibrationOnAFileHelps) {
    const std::string plain = path("plain.gguf"), calibrated = path("calibrated.gguf"),
                      text = path("text.txt");
    json(smelt_command("quantize " + model + " -f q3_k_s -o " + plain + " --no-eval --json"));
    json(smelt_command("quantize " + model + " -f q3_k_s -o " + calibrated +
                       " --no-eval --json --calibration " + text));
    EXPECT_EQ(fs::file_size(plain), fs::file_size(calibrated));
    EXPECT_LT(eval(calibrated)["kl_mean"].get<double>(), eval(plain)["kl_mean"].get<double>());
}

TEST_F(Quantize, WhatIsWrongIsSaidInOneLine) {
    std::ofstream(path("short.txt")) << "Too short.";
    std::ofstream(path("there.gguf")) << "kept";
    const std::string out = " -o " + path("x.gguf");
    const auto refused = [&](const std::string& line, int status, const std::string& expected) {
        const CommandResult r = smelt_command(line);
        EXPECT_EQ(r.status, status) << line;
        EXPECT_NE(r.err.find(expected), std::string::npos) << line << ": " << r.err;
        EXPECT_FALSE(fs::exists(path("x.gguf"))) << line;
    };
    refused("quantize " + model + " -f q4_k_m -o " + path("there.gguf"), 1, "--force");
    refused("quantize " + model + " -f fp8" + out, 2, "formats to write are");
    refused("quantize " + model + out, 2, "expected --format, --auto or --recipe");
    refused("quantize " + model + " -f q4_k_m", 2, "expected a name to write");
    refused("quantize " + model + " -f q4_k_m --calibration " + path("short.txt") + out, 1,
            "tokens for calibration");
    refused("quantize " + model + " --auto lots" + out, 1, "expected bits a weight");
    refused("quantize " + model + " --auto 1000B" + out, 1, "text and metadata alone");
    refused("quantize " + model + " -f q4_k_m -o " + path("folder"), 1, "GGUF alone");
    refused("eval " + model + " --text " + path("short.txt"), 1, "at least one window");
    EXPECT_EQ(fs::file_size(path("there.gguf")), 4u);
    EXPECT_EQ(
        smelt_command("quantize " + model + " -f q4_0 --no-eval --force -o " + path("there.gguf")).status, 0);
    EXPECT_GT(fs::file_size(path("there.gguf")), 1000u);
}

}  // namespace
}  // namespace smelt
