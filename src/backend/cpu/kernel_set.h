// The kernels of the instruction set that is being compiled; kernel_table.cpp collects them.
#pragma once

#include "backend/cpu/kernels.h"

namespace smelt::cpu::SMELT_ISA {

bool takes_int8(Format f, int64_t cols);
size_t matmul_scratch(Format f, int64_t cols);
void matmul(const MatmulArgs& a);
size_t packed_bytes(Format f, int64_t rows, int64_t cols);
void pack(const MatrixRows& w, int64_t first_row, int64_t last_row, uint8_t* to);
// What matmul() chooses from.
void matmul_float(const MatmulArgs& a);
size_t decode_scratch(int64_t cols);
void matmul_decoded(const MatmulArgs& a);
void quantize(const float* x, int64_t n, int8_t* q, QuantizedGroup* groups, QuantizedHalves* halves);
size_t attend_scratch(int n_rows, int k_dim, int v_dim);
void attend(const AttendArgs& a);
void attend_merge(float* m, float* l, float* acc, float span_m, float span_l, const float* span_acc,
                  int v_dim);
void attend_finish(float* out, const float* acc, float l, int v_dim);
void rms_norm(float* out, const float* x, const float* w, int64_t n, float eps);
void layer_norm(float* out, const float* x, const float* w, const float* bias, int64_t n, float eps);
void add(float* x, const float* y, int64_t n);
void silu_mul(float* out, const float* gate, const float* up, int64_t n);
void clamped_silu_mul(float* out, const float* gate, const float* up, int64_t n, float alpha, float limit);
void gelu(float* out, const float* x, int64_t n);
void gelu_mul(float* out, const float* gate, const float* up, int64_t n);
void sigmoid_mul(float* out, const float* gate, const float* x, int64_t n);
void soft_cap(float* x, int64_t n, float cap);
void causal_conv(float* out, const float* const* x, int kernel, const float* w, int64_t n, int64_t first,
                 int64_t last);
void delta_rule(const DeltaArgs& a);
void rope_half(float* x, const float* table, int64_t n_pairs);
void rope_interleaved(float* x, const float* table, int64_t n_pairs);
void to_f16(uint16_t* out, const float* x, int64_t n);
void kv_encode(Format f, const float* x, int64_t n, void* row);
void kv_decode(Format f, const void* row, int n, float* to);

extern const Kernels kernels;

}  // namespace smelt::cpu::SMELT_ISA
