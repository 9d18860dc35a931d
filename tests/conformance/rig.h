// What the conformance tests stand on: the backends of this machine, tensors and weights with known contents
// on any of them, and a comparison against bounds.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"

namespace smelt {

struct Device {
    std::string label;  // "cpu avx2"
    std::unique_ptr<Backend> backend;
};
// Every usable backend but the reference, with every instruction set that this processor has.
std::vector<Device> make_devices(int n_threads);
const std::vector<Device>& devices();  // with 3 threads, made once
Backend& reference();

// Inputs by seed, the same on every backend.
std::vector<float> normal(int64_t n, unsigned seed, float deviation = 1);
// Weights as a file would hold them, at an odd address.
struct EncodedWeight {
    Format format;
    int64_t rows, cols;
    std::vector<std::byte> data, scales;
    WeightView view() const;
    std::vector<float> decoded() const;
};
EncodedWeight random_weight(Format f, int64_t rows, int64_t cols, unsigned seed);
EncodedWeight encode_vector(const std::vector<float>& values);
// The least multiple of the format's block that has room for so many columns.
int64_t whole_blocks(Format f, int64_t cols);

// Tensors on one backend for the length of a test case.
class Rig {
 public:
    explicit Rig(Backend& b) : be(b) {}
    Backend& be;

    // `gap` elements of filler between rows.
    Tensor floats(std::vector<int64_t> shape, const std::vector<float>& values, int64_t gap = 0);
    Tensor empty(std::vector<int64_t> shape, int64_t gap = 0);
    Tensor ints(std::vector<int64_t> shape, const std::vector<int32_t>& values);
    Tensor raw(DType type, std::vector<int64_t> shape);  // zeroed
    KvRows kv_rows(Format f, int64_t n_blocks, int64_t block_len, int64_t n_heads, int64_t dim);
    Weight matrix(const EncodedWeight& w) { return be.load(w.view(), WeightUse::matrix); }
    Weight vector(const EncodedWeight& w) { return be.load(w.view(), WeightUse::vector); }

    // The rows of t; fails when the filler between them has changed.
    std::vector<float> read(const Tensor& t);
    std::vector<std::byte> read(const KvRows& rows);

 private:
    std::vector<std::unique_ptr<Storage>> storages_;
};

// |got - expected| <= bound everywhere, and the error's energy at most max_nmse of the expected one's.
// Reports the worst place.
testing::AssertionResult near(const std::vector<float>& got, const std::vector<float>& expected,
                              const std::vector<double>& bound, double max_nmse);
// The same bits.
testing::AssertionResult identical(const std::vector<float>& got, const std::vector<float>& expected);

constexpr double eps = 0x1p-24;  // largest relative error of rounding to float

inline double as_double(float x) {
    return static_cast<double>(x);
}

}  // namespace smelt
