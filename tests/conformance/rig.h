// What the conformance tests stand on: the backends of this machine, tensors and weights with known contents
// on any of them, and a comparison against bounds.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
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
// Every usable backend but the reference, with every instruction set that this processor has; only the one
// that the environment's SMELT_TEST_DEVICE names, where it names one.
std::vector<Device> make_devices(int n_threads, bool repack = true);
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

// A record on one backend, the contents of its tensors, and the program that it becomes.
class Rig {
 public:
    explicit Rig(Backend& b, const StepShape& shape = {});
    Backend& be;
    Record record;
    // Counts are those of the shape until a test says otherwise, everything else is no valid id, slot or
    // token until a test sets it.
    StepInput input;

    // `gap` elements of filler between rows. Rows are fixed, or counted by something of which each has
    // shape[0] / its bound.
    Tensor floats(std::vector<int64_t> shape, const std::vector<float>& values, int64_t gap = 0,
                  RowsOf rows_of = RowsOf::fixed);
    Tensor empty(std::vector<int64_t> shape, int64_t gap = 0, RowsOf rows_of = RowsOf::fixed);
    Tensor ints(std::vector<int64_t> shape, const std::vector<int32_t>& values,
                RowsOf rows_of = RowsOf::fixed);
    const InputTensors& in() const { return record.inputs(); }
    // The first values of a tensor of the input.
    void set(const Tensor& t, const std::vector<int32_t>& values);
    template <class T>
    void set_structs(const Tensor& t, const std::vector<T>& values) {
        const std::span<T> to = input.of<T>(t);
        CHECK(values.size() <= to.size());
        std::copy(values.begin(), values.end(), to.begin());
    }
    void write(const Tensor& t, const std::vector<float>& values);

    Weight matrix(const EncodedWeight& w) { return be.load(w.view(), {.use = WeightUse::matrix}); }
    Weight matrix(EncodedWeight&&) = delete;  // devices read its bytes where they are
    Weight vector(const EncodedWeight& w) { return be.load(w.view(), {.use = WeightUse::vector}); }

    template <class Op>
    Rig& add(const Op& op) {
        record.add(op);
        return *this;
    }
    // Gives the tensors their contents too.
    void compile();
    // Compiles the record where compile() has not.
    StepResult run();

    // All rows of t, also those that a step did not have; fails when the filler between them has changed.
    std::vector<float> read(const Tensor& t);
    std::vector<int32_t> read_ints(const Tensor& t);

 private:
    Tensor take(DType type, const std::vector<int64_t>& shape, int64_t gap, RowsOf rows_of);
    void put(const Tensor& dense, const void* bytes);

    struct Contents {
        Tensor tensor;
        std::vector<std::byte> bytes;
    };
    std::vector<Contents> contents_;  // until the record is compiled
    std::unique_ptr<Program> program_;
};

// Everything that a cache holds, block after block.
std::vector<std::byte> contents_of(KvStorage& kv);

// |got - expected| <= bound everywhere, and the error's energy at most max_nmse of the expected one's.
// Reports the worst place.
testing::AssertionResult near(const std::vector<float>& got, const std::vector<float>& expected,
                              const std::vector<double>& bound, double max_nmse);
// The same bits.
testing::AssertionResult identical(const std::vector<float>& got, const std::vector<float>& expected);

constexpr float filler = -77777.0f;  // what memory that no op may write holds
constexpr double eps = 0x1p-24;      // largest relative error of rounding to float

inline double as_double(float x) {
    return static_cast<double>(x);
}

}  // namespace smelt
