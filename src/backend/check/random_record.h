// Random valid records for one backend or several: the same choices give the same ops over the same values
// everywhere. For checks; no model is made like this.
#pragma once

#include <deque>
#include <optional>
#include <random>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"

namespace smelt {

// Numbers that decide what a record is: bytes of a fuzzer as long as there are any, then those of a generator
// that the bytes seed.
class Choices {
 public:
    explicit Choices(uint64_t seed) : random_(seed) {}
    explicit Choices(std::span<const uint8_t> bytes);

    int64_t below(int64_t n);  // 0 to n - 1
    int64_t between(int64_t least, int64_t most) { return least + below(most - least + 1); }
    template <class T>
    T one_of(std::initializer_list<T> list) {
        return list.begin()[below(static_cast<int64_t>(list.size()))];
    }
    float normal(float deviation = 1);
    uint64_t bits() { return random_(); }

 private:
    std::vector<uint8_t> bytes_;
    size_t used_ = 0;
    std::mt19937_64 random_;
};

struct RandomRecordOptions {
    std::string_view op = {};           // "Matmul", ...; empty: any
    std::optional<Format> format = {};  // of weights; none: any
    int n_ops = 1;
    Fusions fusions = {};  // fused ops that the record may have
};

class RandomRecord {
 public:
    RandomRecord(Backend& backend, const RandomRecordOptions& options, Choices choices);

    Backend& be;
    Record record;
    StepInput input;
    std::unique_ptr<KvStorage> kv;
    std::unique_ptr<KvStorage> states;  // of recurrent ops; as many rows as kv has blocks
    std::unordered_map<const Weight*, WeightView> views;
    // What is in the workspace by buffer, and in the cache, before the step.
    std::vector<std::vector<std::byte>> contents;
    std::vector<std::byte> kv_contents, state_contents;

    static constexpr int64_t state_floats = 6000;
    static constexpr float untouched = -77777.0f;  // what memory holds that nothing was put into

 private:
    static constexpr int max_magnitude = 5;  // 4^5: products of such values are far from overflow
    static constexpr int64_t vocab_rows = 37;

    struct Live {
        Tensor tensor;
        int magnitude;  // about log4 of the largest value
    };
    struct Bytes {
        std::vector<std::byte> data, scales;
    };

    void fill_input();
    void fill_kv();
    void fill_states();
    op::StateRows state_rows(int64_t n_floats);
    Tensor take(DType type, RowsOf rows_of, int64_t each, std::vector<int64_t> row, int64_t gap);
    // Memory of its own, or, as in steps of models, memory that other tensors had and no later op reads.
    Tensor empty(std::vector<int64_t> row, RowsOf rows_of = RowsOf::tokens, int64_t each = 1);
    std::optional<Tensor> left_over(RowsOf rows_of, int64_t each, const std::vector<int64_t>& row,
                                    int64_t gap);
    Tensor fresh(std::vector<int64_t> row, RowsOf rows_of = RowsOf::tokens, int64_t each = 1,
                 float deviation = 1);
    Tensor ints(int64_t row, int64_t end);
    // A tensor of this shape, random or made by an op before.
    Tensor given(std::vector<int64_t> row, RowsOf rows_of = RowsOf::tokens, int64_t each = 1);
    // The same, but not the tensor that an op changes in place.
    Tensor other_than(const Tensor& x, std::vector<int64_t> row);
    void made(const Tensor& t, int more_magnitude = 0);
    const Weight* load(Format f, int64_t rows, int64_t cols, WeightUse use, float deviation = 0.1f);
    const Weight* matrix(int64_t rows, int64_t cols) { return load(format_, rows, cols, WeightUse::matrix); }
    const Weight* vector(int64_t n, int64_t rows = 1, float deviation = 1) {
        return load(Format::F32, rows, n, WeightUse::vector, deviation);
    }
    const Weight* negative_vector(int64_t n);  // from -1 / 16 to -16
    WeightList list(int64_t n, int64_t rows, int64_t cols);
    int64_t width();  // of rows that a weight's format has whole blocks of
    int64_t most(RowsOf rows_of) const;
    void add(std::string_view name);

#define X(name) void add_##name();
    SMELT_OPS(X)
#undef X

    static StepShape choose_shape(Choices& c, const RandomRecordOptions& o);

    RandomRecordOptions options_;
    Choices c_;
    Format format_;
    int64_t head_dim_ = 32, n_kv_heads_ = 1, n_rep_ = 1, n_experts_ = 1, n_used_ = 1;
    int input_magnitude_ = 0;  // of the op that is being made
    std::vector<Live> live_;
    std::vector<Tensor> routed_;
    std::vector<int> in_use_;  // buffers of the op that is being made
    std::deque<Bytes> bytes_;
    std::deque<Weight> weights_;
};

// Names of all ops, in the order of the list.
std::span<const std::string_view> op_names();
// Fused ops are only for devices that ask for them.
bool may_have(const Fusions& fusions, std::string_view op);

}  // namespace smelt
