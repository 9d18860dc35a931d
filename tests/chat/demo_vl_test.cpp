// The bundled vision model: the same logits and answers as the reference implementation on every backend, and
// right answers about scenes that it was not trained on.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <map>

#include "base/json.h"
#include "chat/chat_request.h"
#include "engine/forward.h"
#include "golden/golden_file.h"
#include "image/image.h"

namespace smelt {
namespace {

const std::filesystem::path folder = std::filesystem::path(SMELT_MODELS) / "demo-vl";
const std::filesystem::path scenes = std::filesystem::path(SMELT_TEST_DATA) / "demo_scenes";

TEST(DemoVl, LogitsAndGreedyAnswersAgree) {
    const GoldenFile golden(folder / "golden.safetensors");
    for (const BackendInfo& info : list_backends()) {
        if (!info.missing.empty()) continue;
        const auto backend = make_backend(info.name);
        const auto model = load_model(open_model(folder), *backend);
        const VisionConfig& vision = model->vision()->config();
        for (const std::string k : {"0", "1", "2"}) {
            SCOPED_TRACE(info.name + ", picture " + k);
            const MappedFile file(folder / ("golden_" + k + ".png"));
            const std::shared_ptr<const Patches> patches[] = {std::make_shared<const Patches>(
                make_patches(decode_image(file.bytes(), "picture"), vision.patches))};
            const std::vector<int32_t> ids = golden.ints("ids_" + k), greedy = golden.ints("greedy_" + k);
            const std::vector<float> expected = golden.floats("logits_" + k);
            SequenceRunner sequence(*model, *backend, static_cast<int>(ids.size() + greedy.size()),
                                    {Format::F32, Format::F32});
            sequence.set_pictures(find_places(ids, vision.image_token, patches));
            auto logits = sequence.feed(ids, SequenceRunner::Logits::last);
            // Weights are bf16 in the file; products of them are float32 on every device.
            EXPECT_LE(worst_difference(logits, expected, expected.size()), 1e-5f);
            for (const int32_t id : greedy) {
                ASSERT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), id);
                logits = sequence.feed({&id, 1}, SequenceRunner::Logits::last);
            }
        }
    }
}

std::string answer(ChatModel& model, const std::string& picture, const std::string& question) {
    std::ifstream in(scenes / picture, std::ios::binary);
    const auto file = std::make_shared<const std::string>(std::istreambuf_iterator<char>(in),
                                                          std::istreambuf_iterator<char>());
    ChatRequest request;
    request.messages = {{.role = Role::user, .parts = {ImagePart{file, picture}, TextPart{question}}}};
    request.options.max_tokens = 120;
    const auto generation = model.generate(make_prompt(model, request), make_options(model, request));
    std::string text;
    while (const auto delta = generation->next()) text += delta->answer;
    return text;
}

TEST(DemoVl, AnswersAreNotDrawn) {
    // generation_config.json says do_sample: false, and nothing else.
    EXPECT_EQ(ChatModel::open(folder, {.backend = {.n_threads = 1}})->default_sampling().temperature, 0);
}

// models/demo-vl/README.md says how good it is; here is less than that, so that chance cannot fail it.
TEST(DemoVl, AnswersQuestionsAboutScenes) {
    const auto model = ChatModel::open(folder, {.backend = {.n_threads = 2}});
    struct Score {
        int right = 0, n = 0;
    };
    std::map<std::string, Score> scores;
    std::ifstream in(scenes / "questions.jsonl");
    for (std::string line; std::getline(in, line);) {
        const Json q = parse_json(line, "questions.jsonl");
        Score& score = scores[q.at("kind")];
        ++score.n;
        score.right += answer(*model, q.at("picture"), q.at("question")) == q.at("answer");
    }
    Score simple;
    for (const auto& [kind, score] : scores) {
        RecordProperty(kind, fmt::format("{} of {}", score.right, score.n));
        printf("%-12s%4d of %d\n", kind.c_str(), score.right, score.n);
        if (kind == "relation" || kind == "word" || kind == "describe") continue;
        EXPECT_GE(score.right, score.n * 0.9) << kind;
        simple.right += score.right;
        simple.n += score.n;
    }
    EXPECT_GE(simple.n, 150);
    EXPECT_GE(simple.right, simple.n * 0.95);
    EXPECT_GE(scores["word"].right, scores["word"].n * 0.4);  // of 80 words
}

}  // namespace
}  // namespace smelt
