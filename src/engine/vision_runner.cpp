// Records, runs and keeps.
#include "engine/vision_runner.h"

#include <algorithm>

#include "backend/fusion.h"
#include "base/error.h"

namespace smelt {

namespace {

constexpr int64_t block_len = 32;                // positions
constexpr size_t most_kept = size_t{256} << 20;  // bytes of features

}  // namespace

std::shared_ptr<const Features> VisionRunner::features(const Patches& patches) {
    const auto known = std::ranges::find(kept_, patches.digest, &Kept::digest);
    if (known != kept_.end()) {
        kept_.splice(kept_.begin(), kept_, known);
        return known->features;
    }
    kept_.push_front({patches.digest, compute(patches)});
    size_t bytes = 0;
    for (auto it = kept_.begin(); it != kept_.end();) {
        bytes += it->features->values.size() * sizeof(float);
        it = bytes > most_kept && it != kept_.begin() ? kept_.erase(it) : std::next(it);
    }
    return kept_.front().features;
}

std::shared_ptr<const Features> VisionRunner::compute(const Patches& patches) {
    const VisionConfig& c = tower_.config();
    const int n = patches.n();
    const int64_t n_blocks = (n + block_len - 1) / block_len;
    if (kv_.empty() || kv_[0]->shape().n_blocks < n_blocks) {
        const KvShape shape{.k_format = Format::F32,
                            .v_format = Format::F32,
                            .n_blocks = n_blocks,
                            .block_len = block_len,
                            .n_heads = c.n_heads,
                            .k_dim = c.head_dim(),
                            .v_dim = c.head_dim(),
                            .layer = -1};
        if (shape.n_bytes() > backend_.available_memory()) {
            throw Error("picture of {} patches: {:.2f} GB are needed, {:.2f} GB of memory are free", n,
                        static_cast<double>(shape.n_bytes()) / 1e9,
                        static_cast<double>(backend_.available_memory()) / 1e9);
        }
        kv_.clear();
        kv_.push_back(backend_.allocate_kv(shape));
    }
    const StepShape shape{.n_tokens = n,
                          .n_seqs = 1,
                          .max_blocks = static_cast<int>(n_blocks),
                          .n_features = n,
                          .feature_len = static_cast<int>(tower_.input_len()),
                          .rope_axes = 3};
    Record record(shape);
    Step step(record, kv_, block_len, n);
    tower_.forward(step);
    const auto program = backend_.compile(fuse(std::move(record), backend_.describe().fusions));

    StepInput input;
    input.reset(shape);
    input.counts() = {.n_tokens = n, .n_seqs = 1, .max_kv_len = n};
    const InputTensors& in = input.tensors();
    const std::vector<float> values = tower_.input(patches);
    const std::span<float> features = input.of<float>(in.features);
    std::fill_n(features.begin(), tower_.input_len(), 0.0f);
    std::ranges::copy(values, features.begin() + tower_.input_len());
    for (int i = 0; i < n; ++i) {
        const auto at = static_cast<size_t>(i);
        const auto [row, col] = patches.at(i);
        input.of(in.ids)[at] = 0;
        input.of(in.positions)[at] = n - 1;  // sees all
        input.of(in.slots)[at] = i;
        input.of(in.feature_rows)[at] = i + 1;
        input.of(in.merged_rows)[at] = i + 1;
        input.of(in.rope_positions[0])[at] = 0;
        input.of(in.rope_positions[1])[at] = row;
        input.of(in.rope_positions[2])[at] = col;
    }
    input.of(in.seq_start)[0] = 0;
    input.of(in.seq_start)[1] = n;
    for (int64_t b = 0; b < n_blocks; ++b)
        input.of(in.block_table)[static_cast<size_t>(b)] = static_cast<int32_t>(b);
    backend_.launch(*program, input);
    const std::span<const float> made = backend_.collect().hidden;
    auto result = std::make_shared<Features>();
    result->len = c.feature_len();
    result->values.assign(made.begin(), made.end());
    return result;
}

}  // namespace smelt
