// One step of the reference backend: what each op computes, in scalar loops with double accumulation.
// reference.cpp has the ops on rows, reference_sequences.cpp those that look at other tokens.
#pragma once

#include <cmath>
#include <span>
#include <vector>

#include "backend/record.h"
#include "backend/reference_memory.h"
#include "backend/step_input.h"

namespace smelt::reference {

inline double soft_capped(double x, float cap) {
    return static_cast<double>(cap) * std::tanh(x / static_cast<double>(cap));
}

class Steps {
 public:
    // drawn_before: the tokens of the launch before.
    Steps(std::byte* workspace, const StepInput& input, std::span<const int32_t> drawn_before)
        : workspace_(workspace), input_(input), drawn_before_(drawn_before) {}

#define X(Op) void run(const op::Op& op);
    SMELT_OPS(X)
#undef X

 private:
    const StepCounts& counts() const {
        return input_.counts();
    }
    int64_t rows(const Tensor& t) const {
        return counts().rows(t);
    }
    template <class T>
    T* at(const Tensor& t, int64_t row) const {
        std::byte* base =
            t.space == Space::workspace ? workspace_ : const_cast<std::byte*>(input_.bytes().data());
        return reinterpret_cast<T*>(base + t.offset +
                                    static_cast<size_t>(row * t.row_stride) * dtype_bytes(t.dtype));
    }
    // out = x · wᵀ + bias
    void product(const Tensor& out, const Tensor& x, const Weight& w, const Weight* bias);
    void store_rows(HostKv& kv, const KvRows& to, const Tensor& from, const Tensor& slots);
    // The state row of a position of sequence s.
    float* state_row(const op::StateRows& state, int64_t s, int64_t position);
    // token(t) for the tokens of every sequence in order, which changes `held`, the sequence's state.
    template <class Token>
    void each_token_of(const op::StateRows& state, std::vector<float>& held, Token token);

    static const float* floats(const Weight& w) {
        return reinterpret_cast<const float*>(static_cast<const HostWeight*>(w.storage.get())->data.data());
    }
    static RowView weight_row(const Weight& w, int64_t r) {
        const auto* storage = static_cast<const HostWeight*>(w.storage.get());
        const int64_t first = r * storage->row_step * w.cols;
        return {w.format, storage->data.data() + data_bytes(w.format, first),
                storage->scales.data() + scale_bytes(w.format, first), w.cols};
    }

    std::byte* workspace_;
    const StepInput& input_;
    std::span<const int32_t> drawn_before_;
};

}  // namespace smelt::reference
