// Tiny random models that take pictures against the reference implementation, on every backend: pixels,
// features, positions, and the logits of prompts with a picture, however they are fed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>

#include "engine/forward.h"
#include "files/gguf_support.h"
#include "files/writers.h"
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
          logits_(folder_),
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

    std::filesystem::path folder_;
    GoldenFile golden_;
    GoldenLogits logits_;
    std::unique_ptr<Backend> backend_;
    std::unique_ptr<Model> model_;
};

TEST_P(VisionGolden, PixelsAreThoseOfTheReference) {
    for (const std::string k : pictures) {
        const auto p = patches(k);
        EXPECT_EQ(golden_.ints("grid_" + k), (std::vector<int32_t>{1, p->rows, p->cols}));
        const std::vector<float> expected = golden_.floats("pixel_values_" + k);
        const std::vector<float> pixels = pixel_values(*p, model_->vision()->config().patches);
        ASSERT_EQ(pixels.size(), expected.size());
        int n_off = 0;
        float worst = 0;
        for (size_t i = 0; i < expected.size(); ++i) {
            const float off = std::fabs(pixels[i] - expected[i]);
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
        // Each side's float32 rounding; there is no golden of features in double.
        const float worst =
            worst_difference(embeddings, golden_.floats("features_" + k), static_cast<size_t>(dim));
        EXPECT_LE(worst, 2 * 2e-6f);
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
            ASSERT_TRUE(logits_.near(logits, std::stoul(k)));
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

// As llama.cpp's converter writes it: flags of layers, a convolution for each frame.
std::string mmproj_of(const ModelFile& vision) {
    const Metadata& m = vision.metadata;
    GgufBytes g;
    g.key("general.architecture", "clip");
    g.key("clip.projector_type", "qwen3vl_merger");
    for (const char* flag : {"clip.has_vision_encoder", "clip.use_gelu"})
        g.key(flag, GgufValue::boolean), append(g.keys, uint8_t{1});
    for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "attention.head_count",
                            "projection_dim", "patch_size", "spatial_merge_size"}) {
        const std::string name = fmt::format("clip.vision.{}", key);
        g.key(name, static_cast<uint32_t>(*m.get_int(name)));
    }
    g.key("clip.vision.image_size", uint32_t{256});
    // Of the image processor of the goldens; published files have none.
    g.key("clip.vision.image_min_pixels", uint32_t{4096});
    g.key("clip.vision.image_max_pixels", uint32_t{65536});
    for (const char* key : {"clip.vision.image_mean", "clip.vision.image_std"}) {
        g.list(key, GgufValue::f32, 3);
        for (int i = 0; i < 3; ++i) append(g.keys, 0.5f);
    }
    if (const auto* layers = m.get_ints("clip.vision.deepstack_layers")) {
        g.list("clip.vision.is_deepstack_layers", GgufValue::boolean, 4);
        for (int64_t il = 0; il < 4; ++il)
            append(g.keys, static_cast<uint8_t>(std::ranges::find(*layers, il) != layers->end()));
    }
    constexpr uint32_t bf16 = 30;
    const auto add = [&](const std::string& name, std::vector<uint64_t> dims, std::string_view bytes) {
        g.data.resize((g.data.size() + 31) / 32 * 32);
        g.tensor(name, std::move(dims), bf16, g.data.size());
        g.data += bytes;
    };
    for (const TensorView& t : vision.tensors) {
        const std::string_view bytes(reinterpret_cast<const char*>(t.data.data()), t.data.size());
        if (t.name == "v.patch_embd.weight") {
            constexpr size_t frame = 16 * 16 * 2;  // bytes
            for (size_t which = 0; which < 2; ++which) {
                std::string part;
                for (size_t at = which * frame; at < bytes.size(); at += 2 * frame)
                    part += bytes.substr(at, frame);
                add(which == 0 ? t.name : t.name + ".1", {16, 16, 3, static_cast<uint64_t>(t.shape[0])},
                    part);
            }
            continue;
        }
        std::vector<uint64_t> dims(t.shape.rbegin(), t.shape.rend());
        add(t.name, dims, bytes);
    }
    return g.bytes();
}

// In a folder of its own: m.gguf, written by smelt, beside which tests put a tower.
class VisionGguf : public VisionGolden {
 protected:
    void SetUp() override {
        if (GetParam().backend != "cpu") GTEST_SKIP() << "files are the same for all";
        std::filesystem::remove_all(folder);
        std::filesystem::create_directories(folder);
        write_gguf(*original, folder / "m.gguf", {}, {.n_threads = 2});
    }
    void TearDown() override { std::filesystem::remove_all(folder); }

    void logits_agree_with(const std::filesystem::path& tower) {
        const auto model = load_model(with_mmproj(open_model(folder / "m.gguf"), tower), *backend_);
        for (const std::string k : pictures) {
            SCOPED_TRACE("picture " + k);
            EXPECT_TRUE(logits_.near(forward_logits(*model, *backend_, golden_.ints("ids_" + k), 0,
                                                    {Format::F32, Format::F32}, places(k)),
                                     std::stoul(k)));
        }
    }

    const std::filesystem::path folder =
        std::filesystem::path(testing::TempDir()) / ("smelt-mmproj-" + GetParam().model);
    const std::shared_ptr<const ModelFile> original = open_model(folder_);
};

TEST_P(VisionGguf, TheTowerIsWrittenAsLlamaCppWritesIt) {
    write_mmproj(*original, folder / "mmproj.gguf");
    std::ofstream(folder / "theirs.gguf", std::ios::binary) << mmproj_of(*original->vision);
    // Keys and tensors have the names and shapes of the file that the test writes by itself.
    const auto ours = open_model(folder / "mmproj.gguf"), theirs = open_model(folder / "theirs.gguf");
    for (const auto& [key, value] : theirs->metadata.values()) {
        EXPECT_NE(ours->metadata.find(key), nullptr) << key;
    }
    EXPECT_EQ(*ours->metadata.get_ints("clip.vision.is_deepstack_layers"),
              GetParam().model == "qwen3-vl" ? std::vector<int64_t>({0, 1, 1, 0})
                                             : std::vector<int64_t>({0, 0, 0, 0}));
    ASSERT_EQ(ours->tensors.size(), theirs->tensors.size());
    for (const TensorView& t : theirs->tensors) EXPECT_EQ(ours->require(t.name).shape, t.shape) << t.name;
    logits_agree_with(folder / "mmproj.gguf");
    EXPECT_THROW(write_mmproj(*open_model(SMELT_TEST_DATA "/goldens/qwen3"), folder / "none.gguf"), Error);
}

TEST_P(VisionGguf, ATowerThatMakesNoSenseIsNotWritten) {
    const auto refused = [&](const char* key, auto value) {
        auto tower = std::make_shared<ModelFile>(*original->vision);
        tower->metadata.set(key, value);
        ModelFile model = *original;
        model.vision = tower;
        EXPECT_THROW(write_mmproj(model, folder / "none.gguf"), Error) << key;
        EXPECT_FALSE(std::filesystem::exists(folder / "none.gguf"));
    };
    refused("clip.vision.deepstack_layers", std::vector<int64_t>{99});
    refused("clip.vision.deepstack_layers", std::vector<int64_t>{-1});
    refused("clip.vision.block_count", int64_t{1} << 40);
    refused("clip.vision.n_positions", int64_t{-4});
    refused("clip.vision.patch_size", int64_t{7});
}

TEST_P(VisionGguf, LogitsAgree) {
    std::ofstream(folder / "mmproj.gguf", std::ios::binary) << mmproj_of(*original->vision);
    logits_agree_with(folder / "mmproj.gguf");
    EXPECT_THROW(with_mmproj(open_model(folder / "m.gguf"), folder / "m.gguf"), Error);
    EXPECT_THROW(with_mmproj(open_model(SMELT_TEST_DATA "/goldens/qwen3"), folder / "mmproj.gguf"), Error);
}

std::string name_of(const testing::TestParamInfo<VisionGolden::ParamType>& test) {
    std::string name = test.param.model + "_" + test.param.backend;
    std::replace_if(
        name.begin(), name.end(), [](char c) { return c == '-' || c == '.'; }, '_');
    return name;
}
INSTANTIATE_TEST_SUITE_P(All, VisionGolden, testing::ValuesIn(list_cases()), name_of);
INSTANTIATE_TEST_SUITE_P(All, VisionGguf, testing::ValuesIn(list_cases()), name_of);

}  // namespace
}  // namespace smelt
