// The bundled models against the reference implementation: last-position logits of each prompt and the greedy
// answer, on every backend.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/json.h"
#include "engine/forward.h"
#include "golden/golden_file.h"

namespace smelt {
namespace {

constexpr float tolerance = 2e-3f;  // of the row's largest absolute value

class DemoModel : public testing::TestWithParam<std::string> {};

TEST_P(DemoModel, LogitsAndGreedyAnswersAgree) {
    const std::filesystem::path folder = std::filesystem::path(SMELT_MODELS) / GetParam();
    const GoldenFile golden(folder / "golden.safetensors");
    const Json cases = parse_json(MappedFile(folder / "golden.json").text(), "golden.json");
    ASSERT_EQ(cases.size(), 12u);
    for (const BackendInfo& info : list_backends()) {
        if (!info.missing.empty()) continue;
        const auto backend = make_backend(info.name);
        const auto model = load_model(open_model(folder), *backend);
        // The reference backend takes seconds a prompt of the large model; the small one covers the rest.
        const size_t n_cases = info.name == "reference" && GetParam() != "demo-5m" ? 2 : cases.size();
        for (size_t c = 0; c < n_cases; ++c) {
            const std::string name = cases[c].at("name");
            SCOPED_TRACE(info.name + ", " + name);
            const std::vector<int32_t> ids = golden.ints("ids_" + name),
                                       greedy = golden.ints("greedy_" + name);
            const std::vector<float> expected = golden.floats("last_logits_" + name);

            SequenceRunner sequence(*model, *backend, static_cast<int>(ids.size() + greedy.size()),
                                    {Format::F32, Format::F32});
            auto logits = sequence.feed(ids, SequenceRunner::Logits::last);
            float largest = 0, worst = 0;
            for (size_t i = 0; i < expected.size(); ++i) {
                largest = std::max(largest, std::fabs(expected[i]));
                worst = std::max(worst, std::fabs(logits[i] - expected[i]));
            }
            EXPECT_LE(worst, tolerance * largest);
            for (const int32_t id : greedy) {
                ASSERT_EQ(std::max_element(logits.begin(), logits.end()) - logits.begin(), id);
                logits = sequence.feed({&id, 1}, SequenceRunner::Logits::last);
            }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Bundled, DemoModel, testing::Values("demo-5m", "demo-23m"), [](const auto& test) {
    return test.param == "demo-5m" ? std::string("demo_5m") : std::string("demo_23m");
});

}  // namespace
}  // namespace smelt
