// Tiny random models that take pictures against the reference implementation, on every backend: pixels,
// features, positions, and the logits of prompts with a picture, however they are fed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "engine/forward.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

const std::filesystem::path goldens = SMELT_TEST_DATA "/vision_goldens";

struct Case {
    std::string model, backend;
};
std::vector<Case> list_cases() {
    std::vector<Case> cases;
    for (const char* model : {"qwen3-vl", "qwen3.5-vl"}) {
        for (const BackendInfo& b : list_backends()) {
            if (b.missing.empty()) cases.push_back({model, b.name});
        }
    }
    return cases;
}

constexpr const char* pictures[] = {"0", "1", "2"};

class VisionGolden : public testing::TestWithParam<Case> {
 protected:
    VisionGolden()
        : folder_(goldens / GetParam().model),
          golden_(folder_ / "golden.safetensors"),
          backend_(make_backend(GetParam().backend)),
          model_(load_model(open_model(folder_), *backend_)) {}

    std::shared_ptr<const Patches> patches(const std::string& k) const {
        const MappedFile file(folder_ / ("image_" + k + ".ppm"));
        return std::make_shared<const Patches>(
            make_patches(decode_image(file.bytes(), "picture"), model_->vision()->config().patches));
    }
    std::vector<Picture> places(const std::string& k) const {
        const std::shared_ptr<const Patches> all[] = {patches(k)};
        return find_places(golden_.ints("ids_" + k), model_->vision()->config().image_token, all);
    }

    static void expect_close(std::span<const float> got, const std::vector<float>& expected, size_t n,
                             float tolerance) {
        ASSERT_EQ(got.size(), expected.size());
        for (size_t row = 0; row < expected.size(); row += n) {
            float largest = 0, worst = 0;
            for (size_t i = row; i < row + n; ++i) {
                largest = std::max(largest, std::fabs(expected[i]));
                worst = std::max(worst, std::fabs(got[i] - expected[i]));
            }
            ASSERT_LE(worst, tolerance * largest) << "row " << row / n;
        }
    }
    void expect_logits(std::span<const float> got, const std::string& k) const {
        expect_close(got, golden_.floats("logits_" + k), static_cast<size_t>(model_->config().vocab_size),
                     vision_tolerance(model_->config()));
    }
    // Rounding goes through a tower first, and through softmaxes over all patches. A recurrent golden carries
    // its own: the reference backend, which adds in double, is 4.6e-5 from it and 1e-6 from the CPU.
    static float vision_tolerance(const ModelConfig& c) { return c.recurrent ? 6e-5f : 4e-6f; }

    std::filesystem::path folder_;
    GoldenFile golden_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(VisionGolden, PixelsAreThoseOfTheReference) {
    for (const std::string k : pictures) {
        const auto p = patches(k);
        EXPECT_EQ(golden_.ints("grid_" + k), (std::vector<int32_t>{1, p->rows, p->cols}));
        const std::vector<float> expected = golden_.floats("pixel_values_" + k);
        ASSERT_EQ(p->pixels.size(), expected.size());
        int n_off = 0;
        float worst = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
            const float off = std::fabs(p->pixels[i] - expected[i]);
            n_off += off > 0;
            worst = std::max(worst, off);
        }
        EXPECT_EQ(n_off, 0) << "picture " << k << ", worst " << worst << " of " << expected.size();
    }
}

TEST_P(VisionGolden, FeaturesAreThoseOfTheReference) {
    VisionRunner vision(*model_->vision(), *backend_);
    const int64_t dim = model_->config().dim;
    for (const std::string k : pictures) {
        SCOPED_TRACE("picture " + k);
        const auto p = patches(k);
        const auto features = vision.features(*p);
        std::vector<float> embeddings;  // without what deeper layers get
        for (int i = 0; i < p->n_tokens(); ++i) {
            const auto row = features->row(i).first(static_cast<size_t>(dim));
            embeddings.insert(embeddings.end(), row.begin(), row.end());
        }
        expect_close(embeddings, golden_.floats("features_" + k), static_cast<size_t>(dim), 4e-6f);
        EXPECT_EQ(vision.features(*p), features);  // kept
    }
}

TEST_P(VisionGolden, PositionsAreThoseOfTheReference) {
    for (const std::string k : pictures) {
        const std::vector<Picture> own = places(k);
        const RopePositions positions(own);
        const std::vector<int32_t> expected = golden_.ints("positions_" + k);
        const size_t n = expected.size() / 3;
        for (size_t t = 0; t < n; ++t) {
            const auto at = positions.at(static_cast<int>(t));
            for (size_t axis = 0; axis < 3; ++axis)
                ASSERT_EQ(at[axis], expected[axis * n + t]) << "token " << t << ", axis " << axis;
        }
    }
}

TEST_P(VisionGolden, LogitsAgreeHoweverThePromptIsFed) {
    for (const std::string k : pictures) {
        const std::vector<int32_t> ids = golden_.ints("ids_" + k);
        std::vector<float> whole;
        for (const int chunk : {0, 1, 7, 64}) {
            SCOPED_TRACE("picture " + k + ", chunks of " + std::to_string(chunk));
            const auto logits =
                forward_logits(*model_, *backend_, ids, chunk, {Format::F32, Format::F32}, places(k));
            expect_logits(logits, k);
            if (chunk == 0) whole = logits;
            EXPECT_EQ(logits, whole);  // to the last bit
        }
    }
}

TEST_P(VisionGolden, GreedyContinuationIsTheSame) {
    for (const std::string k : pictures) {
        const std::vector<int32_t> ids = golden_.ints("ids_" + k), greedy = golden_.ints("greedy_" + k);
        SequenceRunner sequence(*model_, *backend_, static_cast<int>(ids.size() + greedy.size()),
                                {Format::F32, Format::F32});
        sequence.set_pictures(places(k));
        auto logits = sequence.feed(ids, SequenceRunner::Logits::last);
        for (const int32_t expected : greedy) {
            ASSERT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), expected)
                << "picture " << k;
            logits = sequence.feed({&expected, 1}, SequenceRunner::Logits::last);
        }
    }
}

TEST_P(VisionGolden, PlacesThatDoNotFitAreRefused) {
    const std::vector<int32_t> ids = golden_.ints("ids_0");
    const std::shared_ptr<const Patches> other[] = {patches("1")};
    const int32_t token = model_->vision()->config().image_token;
    EXPECT_THROW(find_places(ids, token, other), Error);
    EXPECT_THROW(find_places(ids, token, {}), Error);
}

INSTANTIATE_TEST_SUITE_P(All, VisionGolden, testing::ValuesIn(list_cases()), [](const auto& test) {
    std::string name = test.param.model + "_" + test.param.backend;
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
});

}  // namespace
}  // namespace smelt
