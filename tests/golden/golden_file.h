// Reads golden.safetensors: what the reference implementation (transformers, float32) computed; and
// golden_double.safetensors, the same in double, of models where its own rounding is larger than ours may be.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "files/readers.h"

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

// The largest difference of a row, of the largest absolute value that is expected in it.
inline float worst_difference(std::span<const float> got, std::span<const float> expected, size_t vocab) {
    CHECK(got.size() == expected.size() && vocab > 0);
    float worst = 0;
    for (size_t row = 0; row < expected.size(); row += vocab) {
        float largest = 0, difference = 0;
        for (size_t i = row; i < row + vocab; ++i) {
            largest = std::max(largest, std::fabs(expected[i]));
            difference = std::max(difference, std::fabs(got[i] - expected[i]));
        }
        worst = std::max(worst, difference / largest);
    }
    return worst;
}

// What a model's logits should be, prompt by prompt, and how far from them float32 may be.
class GoldenLogits {
 public:
    explicit GoldenLogits(const std::filesystem::path& folder) {
        const GoldenFile rounded(folder / "golden.safetensors");
        for (const char* name : {"logits_0", "logits_1", "logits_2"}) logits_.push_back(rounded.floats(name));
        vocab_ = logits_[0].size() / rounded.ints("ids_0").size();
        const std::filesystem::path exact_path = folder / "golden_double.safetensors";
        if (!std::filesystem::exists(exact_path)) return;
        // Recurrent layers carry rounding from token to token, and large scores enlarge it. The reference
        // implementation shows how much that is in float32; another order of additions may add a quarter.
        const GoldenFile exact(exact_path);
        for (size_t k = 0; k < logits_.size(); ++k) {
            std::vector<float> expected = exact.floats("logits_" + std::to_string(k));
            tolerance_ = std::max(tolerance_, 1.25f * worst_difference(logits_[k], expected, vocab_));
            logits_[k] = std::move(expected);
        }
    }

    // All logits of prompt k, or those of its last positions where the golden has no others.
    testing::AssertionResult near(std::span<const float> got, size_t k) const {
        const std::vector<float>& expected = logits_.at(k);
        if (got.size() < expected.size()) return testing::AssertionFailure() << got.size() << " logits";
        const float worst = worst_difference(got.last(expected.size()), expected, vocab_);
        if (worst <= tolerance_) return testing::AssertionSuccess();
        return testing::AssertionFailure()
               << "prompt " << k << ": " << worst << " of the largest logit, more than " << tolerance_;
    }

 private:
    std::vector<std::vector<float>> logits_;  // by prompt
    size_t vocab_ = 0;
    float tolerance_ = 2e-6f;  // of a row's largest absolute logit
};

}  // namespace smelt
