// NVFP4 of GGUF with the tensors' floats.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "files/readers.h"

namespace smelt {

namespace {

std::vector<float> read_factors(const TensorView& t, const TensorView& scale) {
    const int64_t n_experts = t.shape.size() == 3 ? t.shape[0] : 1, n = scale.n_elements();
    if (scale.format != Format::F32 || (n != 1 && n != n_experts)) {
        throw Error("{}: tensor {}: expected one F32 or {}, found {} {}", scale.source, scale.name, n_experts,
                    n, to_string(scale.format));
    }
    std::vector<float> factors(static_cast<size_t>(n));
    std::memcpy(factors.data(), scale.data.data(), scale.data.size());
    factors.resize(static_cast<size_t>(n_experts), factors.front());
    return factors;
}

std::span<const std::byte> keep(std::vector<std::byte> bytes, ModelFile& model) {
    model.owned.push_back(std::make_shared<const std::vector<std::byte>>(std::move(bytes)));
    return *model.owned.back();
}

// Scales times the factor; nibbles in the order of Hugging Face files.
void apply(TensorView& t, const std::vector<float>& factors, ModelFile& model) {
    const int64_t n = t.n_elements(), n_blocks = n / BlockNVFP4::block_len;
    std::vector<std::byte> quants(data_bytes(Format::NVFP4_HF, n)), scales(scale_bytes(Format::NVFP4_HF, n));
    for (int64_t i = 0; i < n_blocks; ++i) {
        BlockNVFP4 from;
        std::memcpy(&from, t.data.data() + i * static_cast<int64_t>(sizeof(from)), sizeof(from));
        const float factor =
            factors[static_cast<size_t>(i * static_cast<int64_t>(factors.size()) / n_blocks)];
        for (int g = 0; g < 4; ++g) {
            const float scale = BlockNVFP4::scale(&from, g) * factor;
            const auto group = static_cast<size_t>(4 * i + g);
            std::memcpy(scales.data() + group * sizeof(scale), &scale, sizeof(scale));
            for (int j = 0; j < 16; j += 2) {
                const auto nibble = [&](int k) { return from.qs[8 * g + k % 8] >> (k / 8 * 4) & 15; };
                quants[group * 8 + static_cast<size_t>(j / 2)] =
                    static_cast<std::byte>(nibble(j) | nibble(j + 1) << 4);
            }
        }
    }
    t.format = Format::NVFP4_HF;
    t.data = keep(std::move(quants), model);
    t.scales = keep(std::move(scales), model);
}

}  // namespace

void apply_nvfp4_scales(ModelFile& model, Weights weights) {
    constexpr std::string_view weight = ".weight";
    std::vector<std::string> used;
    for (TensorView& t : model.tensors) {
        if (t.format != Format::NVFP4 || t.n_elements() == 0 || !t.name.ends_with(weight)) continue;
        const std::string stem = t.name.substr(0, t.name.size() - weight.size());
        used.push_back(stem + ".input_scale");  // of activations, which smelt does not quantize this way
        const TensorView* scale = model.find(stem + ".scale");
        if (scale == nullptr) continue;
        used.push_back(scale->name);
        const std::vector<float> factors = read_factors(t, *scale);
        if (weights == Weights::ready) apply(t, factors, model);
    }
    if (used.empty()) return;
    std::ranges::sort(used);
    std::erase_if(model.tensors,
                  [&](const TensorView& t) { return std::ranges::binary_search(used, t.name); });
}

}  // namespace smelt
