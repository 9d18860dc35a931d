// The bundled model through every container: the same tokens, the same prompts, the same weights.
#include "apps/conversion_job.h"

#include "files/files_support.h"
#include "files/model_file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace smelt {
namespace {

const char* const sample = "What is 12 + 30? <|im_start|>user\nÄpfel \xf0\x9f\x8d\x8e  and\ttabs<|im_end|>";

fs::path demo() {
    return fs::path(SMELT_MODELS) / "demo-5m";
}

std::string render(const ModelFile& model, const Json& messages, bool thinking) {
    return ChatTemplate(*model.metadata.get_string("tokenizer.chat_template"))
        .render({{"messages", messages}, {"add_generation_prompt", true}, {"enable_thinking", thinking}});
}

void convert(const fs::path& in, const fs::path& out, std::optional<Format> format = {}) {
    testing::internal::CaptureStdout();
    run_conversion({.in = in.string(), .out = out.string(), .format = format, .n_threads = 2});
    const std::string said = testing::internal::GetCapturedStdout();
    EXPECT_NE(said.find(out.string()), std::string::npos) << said;
}

class Conversion : public testing::Test {
 protected:
    static void SetUpTestSuite() {
        folder = std::make_unique<TemporaryFolder>();
        convert(demo(), path("m.gguf"));
        convert(path("m.gguf"), path("from_gguf"));
        convert(demo(), path("m.bin"));
        convert(path("m.bin"), path("from_bin.gguf"));
        convert(path("from_bin.gguf"), path("from_bin"));
    }
    static void TearDownTestSuite() { folder.reset(); }
    static fs::path path(const char* name) { return folder->path() / name; }

    static std::unique_ptr<TemporaryFolder> folder;
};
std::unique_ptr<TemporaryFolder> Conversion::folder;

const char* const made[] = {"m.gguf", "from_gguf", "m.bin", "from_bin.gguf", "from_bin"};

TEST_F(Conversion, TokensAreTheSame) {
    const std::vector<int32_t> ids = load_tokenizer(demo()).encode(sample);
    EXPECT_GT(ids.size(), 10u);
    for (const char* name : made) EXPECT_EQ(load_tokenizer(path(name)).encode(sample), ids) << name;
}

TEST_F(Conversion, PromptsAreTheSame) {
    const auto original = open_model(demo());
    const Json user = {{"role", "user"}, {"content", "What's \"that\"? 100 %s"}};
    const Json system = {{"role", "system"}, {"content", "Be brief.\n"}};
    const Json answer = {{"role", "assistant"}, {"content", "That."}};
    for (const char* name : made) {
        const auto model = open_model(path(name));
        for (const bool thinking : {false, true}) {
            for (const Json& messages :
                 {Json::array({user}), Json::array({system, user}), Json::array({system, user, answer, user}),
                  Json::array({user, answer, user, answer, user})}) {
                EXPECT_EQ(render(*model, messages, thinking), render(*original, messages, thinking)) << name;
            }
        }
    }
    // qwen3.c knows no second turn; of earlier answers its models get the text after the thinking, as Qwen3's
    // own template has it.
    const Json thought = {{"role", "assistant"}, {"content", "<think>\nhm\n</think>\n\nThat."}};
    EXPECT_EQ(render(*open_model(path("m.bin")), Json::array({user, thought, user}), true),
              render(*original, Json::array({user, answer, user}), true));
    EXPECT_EQ(read_file(path("m.bin.template")),
              "<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
    EXPECT_EQ(read_file(path("m.bin.template.with-system-and-thinking")),
              "<|im_start|>system\n%s<|im_end|>\n<|im_start|>user\n%s<|im_end|>\n<|im_start|>assistant\n");
}

TEST_F(Conversion, GenerationSettingsAndWeightsAreTheSame) {
    const auto original = open_model(demo()), back = open_model(path("from_gguf"));
    ASSERT_EQ(back->tensors.size(), original->tensors.size());
    for (const TensorView& t : original->tensors) {
        EXPECT_TRUE(std::ranges::equal(t.data, back->require(t.name).data)) << t.name;
    }
    for (const char* key : {"generation.eos_token_ids", "generation.temperature", "generation.top_k",
                            "generation.top_p", "generation.do_sample", "generation.bos_token_id"}) {
        ASSERT_NE(original->metadata.find(key), nullptr) << key;
        ASSERT_NE(back->metadata.find(key), nullptr) << key;
        EXPECT_EQ(*back->metadata.find(key), *original->metadata.find(key)) << key;
    }
    EXPECT_EQ(*open_model(path("m.bin"))->metadata.get_ints("generation.eos_token_ids"),
              *original->metadata.get_ints("generation.eos_token_ids"));
}

TEST_F(Conversion, TargetsByName) {
    EXPECT_EQ(open_model(path("m.gguf"))->container, Container::gguf);
    EXPECT_EQ(open_model(path("m.bin"))->container, Container::qwen3c);
    EXPECT_EQ(open_model(path("from_bin"))->container, Container::hugging_face);
    convert(demo(), path("q4.gguf"), Format::Q4_0);
    EXPECT_EQ(open_model(path("q4.gguf"))->require("blk.0.ffn_up.weight").format, Format::Q4_0);
    EXPECT_THROW(run_conversion({.in = demo().string(), .out = path("x.safetensors").string()}), Error);
    EXPECT_THROW(
        run_conversion({.in = demo().string(), .out = path("m.bin").string(), .format = Format::Q4_0}),
        Error);
    EXPECT_THROW(run_conversion({.in = path("absent").string(), .out = path("x.gguf").string()}), Error);
}

TEST_F(Conversion, JsonIsOneObject) {
    testing::internal::CaptureStdout();
    run_conversion({.in = demo().string(), .out = path("j.gguf").string(), .n_threads = 1, .json = true});
    const Json said = parse_json(testing::internal::GetCapturedStdout(), "stdout");
    EXPECT_EQ(said["container"], "GGUF v3");
    EXPECT_EQ(said["bytes"], fs::file_size(path("j.gguf")));
}

}  // namespace
}  // namespace smelt
