// Reads golden.safetensors: what the reference implementation (transformers, float32) computed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <string>
#include <vector>

#include "backend/backend.h"
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

// A device whose weights are floats with the values that the file has. Products of integer weights quantize
// their activations on the CPU and with CUDA, which is a class of its own: the conformance tests derive a
// bound for each product of it, from format and shape. Goldens look at everything else, in float32.
class FloatWeights : public Backend {
 public:
    explicit FloatWeights(std::unique_ptr<Backend> device) : device_(std::move(device)) {}

    std::string_view name() const override { return device_->name(); }
    std::string description() const override { return device_->description(); }
    Capabilities describe() const override { return device_->describe(); }
    uint64_t available_memory() const override { return device_->available_memory(); }
    Weight load(const WeightView& view, const WeightRole& role) override {
        if (format_info(view.format).block_len == 1) return device_->load(view, role);
        CHECK(view.row_step > 0);
        std::vector<float>& floats = values_.emplace_back(static_cast<size_t>(view.rows * view.cols));
        const size_t row = data_bytes(view.format, view.cols), scales = scale_bytes(view.format, view.cols);
        for (int64_t r = 0; r < view.rows; ++r) {
            const auto at = static_cast<size_t>(r * view.row_step);
            decode_row({view.format, view.data.data() + at * row,
                        view.scales.empty() ? nullptr : view.scales.data() + at * scales, view.cols},
                       std::span(floats).subspan(static_cast<size_t>(r * view.cols),
                                                 static_cast<size_t>(view.cols)));
        }
        return device_->load({.format = Format::F32,
                              .rows = view.rows,
                              .cols = view.cols,
                              .data = std::as_bytes(std::span(floats)),
                              .scales = {}},
                             role);
    }
    std::unique_ptr<KvStorage> allocate_kv(const KvShape& shape) override {
        return device_->allocate_kv(shape);
    }
    std::unique_ptr<Program> compile(const Record& record) override { return device_->compile(record); }
    void launch(Program& program, const StepInput& input) override { device_->launch(program, input); }
    StepResult collect() override { return device_->collect(); }
    void write(const Tensor& t, const void* bytes) override { device_->write(t, bytes); }
    void read(const Tensor& t, void* bytes) override { device_->read(t, bytes); }

 private:
    std::unique_ptr<Backend> device_;
    std::deque<std::vector<float>> values_;
};

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

// Several devices add in another order than one. A golden that carries its own rounding carries theirs too.
inline float several_devices_tolerance(const ModelConfig& c) {
    const float one = golden_tolerance(c);
    return one > 2e-6f ? 2 * one : one;
}

}  // namespace smelt
