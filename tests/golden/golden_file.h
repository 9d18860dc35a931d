// Reads golden.safetensors: what the reference implementation (transformers, float32) computed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "files/readers.h"
#include "model/config.h"

namespace smelt {

class GoldenFile {
 public:
    explicit GoldenFile(const std::filesystem::path& path)
        : file_(path), entries_(read_safetensors(file_.bytes(), path.string())) {}

    std::vector<int32_t> ints(const std::string& name) const { return values<int32_t>(name, "I32"); }
    std::vector<float> floats(const std::string& name) const { return values<float>(name, "F32"); }

 private:
    template <class T>
    std::vector<T> values(const std::string& name, const std::string& dtype) const {
        for (const SafetensorsEntry& e : entries_) {
            if (e.name != name) continue;
            CHECK(e.dtype == dtype);
            std::vector<T> result(e.data.size() / sizeof(T));
            std::memcpy(result.data(), e.data.data(), e.data.size());
            return result;
        }
        throw Error("golden {} is missing", name);
    }

    MappedFile file_;
    std::vector<SafetensorsEntry> entries_;
};

// The largest error that a model on the CPU may have, of a row's largest absolute logit; in_float: where all
// weights are floats. The CPU multiplies integer weights with activations in int8: each is off by at most
// 1/254 of the largest of its 32, which its conformance tests hold it to. Through the layers of a mixture,
// whose router may choose another expert for it, that grows to 1/16 of the largest logit of gpt-oss's tiny
// model.
inline float cpu_tolerance(const std::filesystem::path& folder, float in_float) {
    constexpr float in_int8 = 0.1f;
    const auto file = open_model(folder);
    const bool integers = std::ranges::any_of(
        file->tensors, [](const TensorView& t) { return format_info(t.format).block_len > 1; });
    return integers ? in_int8 : in_float;
}

// Of a row's largest absolute logit, where all is computed in floats. Weights are BF16 in the file; both
// sides compute in float32. The goldens of recurrent models carry their rounding from token to token: the
// reference backend, which adds in double, is as far from them as any other (1.3e-5). With
// latent attention and YaRN scores are 1.9 times as large, and their errors (3.7e-6 on Metal).
inline float golden_tolerance(const ModelConfig& c) {
    if (c.recurrent) return 2e-5f;
    return c.latent && c.attention_scale >
                           1.5f / std::sqrt(static_cast<float>(c.latent->nope_dim + c.latent->rope_dim))
               ? 4e-6f
               : 2e-6f;
}

}  // namespace smelt
