// `smelt quantize` and `smelt eval` as a user types them.
#include <fmt/format.h>
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
    EXPECT_NEAR(same["top1"].get<double>(), 1, 1e-12);
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

// Both files say the same, and rounding by them differs from rounding without.
TEST_F(Quantize, ImportanceMatricesAreWrittenAndRead) {
    const std::string text = path("text.txt"), common = " -f q3_k_s --no-eval --json -o ";
    const auto bytes = [&](const std::string& name) {
        std::ifstream in(path(name), std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    for (const char* name : {"m.gguf", "m.dat"}) {
        json(smelt_command("quantize " + model + common + path("c.gguf") + " --force --calibration " + text +
                           " --save-imatrix " + path(name)));
    }
    json(smelt_command("quantize " + model + common + path("a.gguf") + " --imatrix " + path("m.gguf")));
    json(smelt_command("quantize " + model + common + path("b.gguf") + " --imatrix " + path("m.dat")));
    json(smelt_command("quantize " + model + common + path("plain.gguf")));
    EXPECT_NE(bytes("a.gguf"), bytes("plain.gguf"));
    EXPECT_LT(std::abs(eval(path("a.gguf"))["kl_mean"].get<double>() -
                       eval(path("b.gguf"))["kl_mean"].get<double>()),
              1e-3);
    EXPECT_LT(eval(path("a.gguf"))["kl_mean"].get<double>(),
              eval(path("plain.gguf"))["kl_mean"].get<double>());
    const std::string wrong = "quantize " + model + common + path("x.gguf") + " --imatrix ";
    EXPECT_NE(smelt_command(wrong + path("plain.gguf")).err.find("expected imatrix"), std::string::npos);
    EXPECT_NE(smelt_command(wrong + text).err.find("importance matrix"), std::string::npos);
    std::ofstream(path("cut.dat"), std::ios::binary) << bytes("m.dat").substr(0, 5000);
    EXPECT_NE(smelt_command(wrong + path("cut.dat")).err.find("ends early"), std::string::npos);
    EXPECT_FALSE(fs::exists(path("x.gguf")));
}

// One rounding in two layouts: what is read back is the same, and better than Q4_0 by rounding alone.
TEST_F(Quantize, GptqAndAwqFoldersHoldTheSameNumbers) {
    const std::string text = " --calibration " + path("text.txt") + " --no-eval --json -o ";
    for (const char* name : {"gptq", "awq"}) {
        json(smelt_command("quantize " + model + " -f " + name + text + path(name)));
        std::ifstream config(path(std::string(name) + "/config.json"));
        const Json scheme = parse_json(std::string(std::istreambuf_iterator<char>(config), {}), "config")
                                .at("quantization_config");
        EXPECT_EQ(scheme.at("quant_method"), name);
        EXPECT_EQ(scheme.at("bits"), 4);
        EXPECT_EQ(scheme.at("group_size"), 128);
    }
    json(smelt_command("quantize " + model + " -f q4_0 --no-eval --json -o " + path("q4_0.gguf")));
    const Json gptq = eval(path("gptq")), awq = eval(path("awq")), plain = eval(path("q4_0.gguf"));
    EXPECT_GT(gptq["kl_mean"].get<double>(), 0);
    EXPECT_LT(gptq["kl_mean"].get<double>(), plain["kl_mean"].get<double>());
    EXPECT_EQ(gptq["kl_mean"], awq["kl_mean"]);
    // The tensors themselves, with shapes and types as the reference implementations have them: dim 256, ffn
    // 768.
    const auto header = [&](const std::string& name) {
        std::ifstream in(path(name + "/model.safetensors"), std::ios::binary);
        uint64_t n = 0;
        in.read(reinterpret_cast<char*>(&n), sizeof(n));
        std::string head(n, ' ');
        in.read(head.data(), static_cast<std::streamsize>(n));
        return parse_json(head, "header");
    };
    const std::string down = "model.layers.1.mlp.down_proj.";
    const Json g = header("gptq"), a = header("awq");
    EXPECT_EQ(g[down + "qweight"]["dtype"], "I32");
    EXPECT_EQ(g[down + "qweight"]["shape"], Json({768 / 8, 256}));
    EXPECT_EQ(g[down + "qzeros"]["shape"], Json({768 / 128, 256 / 8}));
    EXPECT_EQ(g[down + "scales"]["dtype"], "F16");
    EXPECT_EQ(g[down + "scales"]["shape"], Json({768 / 128, 256}));
    EXPECT_EQ(g[down + "g_idx"]["shape"], Json({768}));
    EXPECT_EQ(a[down + "qweight"]["shape"], Json({768, 256 / 8}));
    EXPECT_FALSE(a.contains(down + "g_idx"));
    EXPECT_FALSE(g.contains(down + "weight"));
    EXPECT_EQ(g["model.embed_tokens.weight"]["dtype"], "BF16");
    EXPECT_NE(smelt_command("quantize " + model + " -f gptq -o " + path("x.gguf")).err.find("new folder"),
              std::string::npos);
}

TEST_F(Quantize, ReportsGrowModelByModel) {
    const auto text = [&](const std::string& name) {
        std::ifstream in(path("report/" + name));
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    const std::string rest = " --reference " + model + " --text " + path("text.txt") +
                             " --window 128 --windows 2 --json --report " + path("report");
    for (const char* name : {"q8_0", "q4_0", "q4_1"}) {
        json(smelt_command("quantize " + model + " -f " + name + " --no-eval --json -o " +
                           path(std::string(name) + ",x.gguf")));
    }
    for (const char* name : {"q4_0", "q8_0", "q4_1", "q4_0"})
        json(smelt_command("eval " + path(std::string(name) + ",x.gguf") + rest));
    const std::string csv = text("models.csv"), md = text("report.md"), plot = text("kl.svg");
    EXPECT_EQ(std::ranges::count(csv, '\n'), 4) << csv;  // names, three models
    EXPECT_NE(csv.find(fmt::format("\"{}\",", path("q8_0,x.gguf"))), std::string::npos) << csv;
    EXPECT_EQ(std::ranges::count(text("positions.csv"), '\n'), 1 + 3 * 8);
    EXPECT_NE(text("tensors.csv").find("blk.3.ffn_down.weight,q4_1,0.0"), std::string::npos);
    EXPECT_NE(md.find(fmt::format("**{}**", path("q8_0,x.gguf"))), std::string::npos)
        << md;                                             // nothing is better
    EXPECT_NE(md.find("| 3 |"), std::string::npos) << md;  // layers
    EXPECT_EQ(std::ranges::count(plot, '\n') > 10 && plot.find("q4_1,x</text>") != std::string::npos, true)
        << plot;
    EXPECT_EQ(plot.find("nan"), std::string::npos);
    const CommandResult other =
        smelt_command("eval " + path("q4_0,x.gguf") + " --reference " + model + " --text " +
                      path("text.txt") + " --window 64 --windows 2 --report " + path("report"));
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.err.find("as the report has"), std::string::npos) << other.err;
    EXPECT_EQ(text("models.csv"), csv);
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
