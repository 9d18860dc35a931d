// Rounding shape classes up, and where each part of the packed input lies.
#include "backend/step_input.h"

#include <algorithm>

namespace smelt {

namespace {

int bound(int n) {
    return n <= 0 ? 0 : static_cast<int>(std::bit_ceil(static_cast<unsigned>(n)));
}

}  // namespace

StepShape StepShape::bounds() const {
    StepShape s = *this;
    for (int* n :
         {&s.n_tokens, &s.n_seqs, &s.n_logits, &s.n_hidden, &s.max_blocks, &s.n_edits, &s.n_features}) {
        *n = bound(*n);
    }
    s.n_seqs = std::min(s.n_seqs, s.n_tokens);
    s.n_logits = std::min(s.n_logits, s.n_tokens);
    s.n_hidden = std::min(s.n_hidden, s.n_tokens);
    if (every_logit) s.n_logits = s.n_tokens;
    return s;
}

size_t StepShape::hash() const {
    uint64_t h = 0;
    for (const int n : {n_tokens, n_seqs, n_logits, n_hidden, max_blocks, static_cast<int>(every_logit),
                        static_cast<int>(windows), static_cast<int>(draws), static_cast<int>(all_logits),
                        n_top, n_edits, mask_words, n_features, feature_len, n_adapters, rope_axes}) {
        h = (h ^ static_cast<uint64_t>(n)) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

InputTensors::InputTensors(const StepShape& s) {
    constexpr int64_t counts_words = sizeof(StepCounts) / 4;
    const auto take = [&](RowsOf rows_of, int64_t n_rows, int64_t row_len) {
        Tensor t{.space = Space::input,
                 .dtype = DType::I32,
                 .rows_of = rows_of,
                 .rank = row_len == 1 ? 1 : 2,
                 .offset = n_bytes,
                 .shape = {n_rows, row_len == 1 ? 0 : row_len, 0, 0},
                 .row_stride = row_len};
        n_bytes += (t.n_bytes() + 15) / 16 * 16;
        return t;
    };
    counts = take(RowsOf::fixed, counts_words, 1);
    ids = take(RowsOf::tokens, s.n_tokens, 1);
    positions = take(RowsOf::tokens, s.n_tokens, 1);
    slots = take(RowsOf::tokens, s.n_tokens, 1);
    seq_start = take(RowsOf::fixed, s.n_seqs + 1, 1);
    block_table = take(RowsOf::sequences, s.n_seqs, s.max_blocks);
    window_slots = s.windows ? take(RowsOf::tokens, s.n_tokens, 1) : slots;
    window_table = s.windows ? take(RowsOf::sequences, s.n_seqs, s.max_blocks) : block_table;
    if (s.n_logits > 0) logits_rows = take(RowsOf::logits, s.n_logits, 1);
    if (s.n_hidden > 0) hidden_rows = take(RowsOf::hidden, s.n_hidden, 1);
    if (s.draws) draw_rows = take(RowsOf::logits, s.n_logits, sizeof(DrawRow) / 4);
    if (s.n_edits > 0) edits = take(RowsOf::fixed, s.n_edits, sizeof(LogitEdit) / 4);
    if (s.mask_words > 0) masks = take(RowsOf::logits, s.n_logits, int64_t{2} * s.mask_words);
    if (s.n_features > 0) {
        features = take(RowsOf::fixed, 1 + s.n_features, s.feature_len);
        features.dtype = DType::F32;
        feature_rows = take(RowsOf::tokens, s.n_tokens, 1);
        merged_rows = take(RowsOf::tokens, s.n_tokens, 1);
    }
    const auto take_adapters = [&](RowsOf rows_of, int n_rows, Tensor& numbers, Tensor& scales) {
        for (Tensor* t : {&numbers, &scales}) {
            *t = take(rows_of, n_rows, s.n_adapters);
            t->rank = 2;
            t->shape[1] = s.n_adapters;
        }
        scales.dtype = DType::F32;
    };
    if (s.n_adapters > 0) {
        take_adapters(RowsOf::tokens, s.n_tokens, adapters, adapter_scales);
        if (s.n_logits > 0) take_adapters(RowsOf::logits, s.n_logits, logits_adapters, logits_scales);
    }
    for (int axis = 0; axis < 3; ++axis) {
        rope_positions[axis] = axis < s.rope_axes ? take(RowsOf::tokens, s.n_tokens, 1)
                               : axis == 0        ? positions
                                                  : rope_positions[0];
    }
}

void StepInput::reset(const StepShape& shape) {
    if (!(shape == shape_) || tensors_.n_bytes == 0) {
        shape_ = shape;
        tensors_ = InputTensors(shape);
        if (words_.size() * 8 < tensors_.n_bytes) words_.resize((tensors_.n_bytes + 7) / 8);
    }
    counts() = {};
}

}  // namespace smelt
