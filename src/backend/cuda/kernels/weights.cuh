// Sixteen weights of a row at a time, in registers: what matrix products, embeddings and attention read. The
// arithmetic is that of quant/block*.h; here are the loads, as wide as a file's layout lets them be.
#pragma once

#include "backend/cuda/kernels/dialect.cuh"
#include "quant/format_list.h"

namespace smelt::cuda {

// Bytes that lie in registers, as decode16 wants to see them: index i means byte i % 16 of what was loaded.
struct Bytes16 {
    uint4 words;
    INLINE uint8_t operator[](int i) const {
        const uint32_t word = (i & 12) == 0   ? words.x
                              : (i & 12) == 4 ? words.y
                              : (i & 12) == 8 ? words.z
                                              : words.w;
        return static_cast<uint8_t>(word >> (8 * (i & 3)));
    }
};
struct Int8s16 {
    Bytes16 bytes;
    INLINE int8_t operator[](int i) const { return static_cast<int8_t>(bytes[i]); }
};
struct Bytes8 {
    uint2 words;
    INLINE uint8_t operator[](int i) const {
        return static_cast<uint8_t>(((i & 4) == 0 ? words.x : words.y) >> (8 * (i & 3)));
    }
};

// A row of weights. `scales` is of planar formats alone.
struct WeightRow {
    const uint8_t *data, *scales;
    uint32_t n;    // weights
    bool aligned;  // to 16 bytes
};

// Unit u of a row: w[i] is weight 16 * u + i, zero beyond the row's end. Any format of whole blocks, byte by
// byte; below are those that are read by wider loads.
template <class Block>
struct WeightLoad {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        constexpr uint32_t parts = Block::block_len / unit_len;
        const auto* b = reinterpret_cast<const Block*>(row.data) + u / parts;
        Block::decode16(b, static_cast<int>(u % parts), w);
    }
};

// Floats: rows of any length.
template <>
struct WeightLoad<BlockF32> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const float* p = reinterpret_cast<const float*>(row.data) + 16 * u;
        if (row.aligned) {
            UNROLL for (int i = 0; i < 4; ++i) {
                const float4 v = reinterpret_cast<const float4*>(p)[i];
                w[4 * i] = v.x;
                w[4 * i + 1] = v.y;
                w[4 * i + 2] = v.z;
                w[4 * i + 3] = v.w;
            }
            return;
        }
        UNROLL for (uint32_t i = 0; i < 16; ++i) w[i] = 16 * u + i < row.n ? p[i] : 0.0f;
    }
};
// Two bytes a weight, which `convert` makes a float of.
template <class Convert>
INLINE void load_halves(const WeightRow& row, uint32_t u, float* w, Convert convert) {
    if (row.aligned) {
        UNROLL for (int i = 0; i < 2; ++i) {
            const uint4 eight = load16_aligned(row.data + 32 * u + 16 * i);
            const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
            UNROLL for (int j = 0; j < 4; ++j) {
                w[8 * i + 2 * j] = convert(static_cast<uint16_t>(words[j]));
                w[8 * i + 2 * j + 1] = convert(static_cast<uint16_t>(words[j] >> 16));
            }
        }
        return;
    }
    const auto* p = reinterpret_cast<const uint16_t*>(row.data) + 16 * u;
    UNROLL for (uint32_t i = 0; i < 16; ++i) w[i] = 16 * u + i < row.n ? convert(p[i]) : 0.0f;
}
struct HalfToFloat {
    INLINE float operator()(uint16_t bits) const { return half_to_float(bits); }
};
struct BrainToFloat {
    INLINE float operator()(uint16_t bits) const { return bits_as_float(static_cast<uint32_t>(bits) << 16); }
};
template <>
struct WeightLoad<BlockF16> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        load_halves(row, u, w, HalfToFloat{});
    }
};
template <>
struct WeightLoad<BlockBF16> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        load_halves(row, u, w, BrainToFloat{});
    }
};

// What decode16 reads of a block, in registers.
struct ScaledInt8s {
    float d;
    Int8s16 qs;
};
struct ScaledBytes {
    float d;
    Bytes16 qs;
};
struct MicroscaledBytes {
    E8M0 scale;
    Bytes16 qs;
};
struct MicroscaledHalf {
    E8M0 scale;
    Bytes8 qs;
};
struct ScaledHalf {
    float scale;
    Bytes8 qs;
};

template <>
struct WeightLoad<BlockQ8_0> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint8_t* block = row.data + static_cast<uint64_t>(u / 2) * sizeof(BlockQ8_0);
        const ScaledInt8s b = {half_at(block), {{load16(block + BlockQ8_0::quants_offset + 16 * (u % 2))}}};
        BlockQ8_0::decode16(&b, static_cast<int>(u % 2), w);
    }
};
template <>
struct WeightLoad<BlockQ8_G64> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const float d = reinterpret_cast<const float*>(row.scales)[u / 4];
        const uint8_t* at = row.data + 16 * u;
        const ScaledInt8s b = {d, {{row.aligned ? load16_aligned(at) : load16(at)}}};
        BlockQ8_G64::decode16(&b, static_cast<int>(u % 4), w);
    }
};
template <class Block>
INLINE void load_nibbles(const WeightRow& row, uint32_t u, float* w) {
    const uint8_t* block = row.data + static_cast<uint64_t>(u / 2) * sizeof(Block);
    const ScaledBytes b = {half_at(block), {load16(block + Block::quants_offset)}};
    Block::decode16(&b, static_cast<int>(u % 2), w);
}
template <>
struct WeightLoad<BlockQ4_0> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        load_nibbles<BlockQ4_0>(row, u, w);
    }
};
template <>
struct WeightLoad<BlockIQ4_NL> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        load_nibbles<BlockIQ4_NL>(row, u, w);
    }
};
template <>
struct WeightLoad<BlockMXFP4> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint8_t* block = row.data + static_cast<uint64_t>(u / 2) * sizeof(BlockMXFP4);
        const MicroscaledBytes b = {{block[0]}, {load16(block + BlockMXFP4::quants_offset)}};
        BlockMXFP4::decode16(&b, static_cast<int>(u % 2), w);
    }
};
template <class Element>
struct WeightLoad<BlockMXFP8<Element>> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint8_t* block = row.data + static_cast<uint64_t>(u / 2) * sizeof(BlockMXFP8<Element>);
        const MicroscaledBytes b = {{block[0]},
                                    {load16(block + BlockMXFP8<Element>::quants_offset + 16 * (u % 2))}};
        BlockMXFP8<Element>::decode16(&b, static_cast<int>(u % 2), w);
    }
};
// Planar: eight bytes of quants a unit, scales elsewhere.
template <>
struct WeightLoad<BlockMXFP4_HF> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint2 eight = load8(row.data + 8 * u);
        // decode16 counts the bytes of both halves
        const MicroscaledHalf b = {{row.scales[u / 2]}, {eight}};
        BlockMXFP4_HF::decode16(&b, static_cast<int>(u % 2), w);
    }
};
template <>
struct WeightLoad<BlockNVFP4_HF> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const ScaledHalf b = {reinterpret_cast<const float*>(row.scales)[u], {load8(row.data + 8 * u)}};
        BlockNVFP4_HF::decode16(&b, 0, w);
    }
};

// Super-blocks: 16 weights lie in 16 bytes, the small fields are read where they are.
struct Unit45_K {
    float d, dmin;
    const uint8_t* scales;
    Bytes16 qh, qs;
};
template <>
struct WeightLoad<BlockQ4_K> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint8_t* block = row.data + static_cast<uint64_t>(u / 16) * sizeof(BlockQ4_K);
        const uint32_t part = u % 16;
        const Unit45_K b = {half_at(block),
                            half_at(block + BlockQ4_K::min_offset),
                            block + BlockQ4_K::scales_offset,
                            {make_uint4(0, 0, 0, 0)},
                            {load16(block + BlockQ4_K::quants_offset + part / 4 * 32 + part % 2 * 16)}};
        BlockQ4_K::decode16(&b, static_cast<int>(part), w);
    }
};
template <>
struct WeightLoad<BlockQ5_K> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint8_t* block = row.data + static_cast<uint64_t>(u / 16) * sizeof(BlockQ5_K);
        const uint32_t part = u % 16;
        const Unit45_K b = {half_at(block),
                            half_at(block + BlockQ5_K::min_offset),
                            block + BlockQ5_K::scales_offset,
                            {load16(block + BlockQ5_K::high_offset + part % 2 * 16)},
                            {load16(block + BlockQ5_K::quants_offset + part / 4 * 32 + part % 2 * 16)}};
        BlockQ5_K::decode16(&b, static_cast<int>(part), w);
    }
};
struct Unit6_K {
    Bytes16 ql, qh;
    const int8_t* scales;
    float d;
};
template <>
struct WeightLoad<BlockQ6_K> {
    INLINE static void unit(const WeightRow& row, uint32_t u, float* w) {
        const uint8_t* block = row.data + static_cast<uint64_t>(u / 16) * sizeof(BlockQ6_K);
        const uint32_t part = u % 16, side = part / 8, quarter = part / 2 % 4, first = part % 2 * 16;
        const Unit6_K b = {{load16(block + 64 * side + quarter % 2 * 32 + first)},
                           {load16(block + BlockQ6_K::high_offset + 32 * side + first)},
                           reinterpret_cast<const int8_t*>(block + BlockQ6_K::scales_offset),
                           half_at(block + BlockQ6_K::d_offset)};
        BlockQ6_K::decode16(&b, static_cast<int>(part), w);
    }
};

// Sixteen values of a row of x, zeros beyond its end.
INLINE void load_activations(const float* x, uint32_t u, uint32_t n, bool aligned, float* to) {
    const float* p = x + 16 * u;
    if (aligned && 16 * u + 16 <= n) {
        UNROLL for (int i = 0; i < 4; ++i) {
            const float4 v = reinterpret_cast<const float4*>(p)[i];
            to[4 * i] = v.x;
            to[4 * i + 1] = v.y;
            to[4 * i + 2] = v.z;
            to[4 * i + 3] = v.w;
        }
        return;
    }
    UNROLL for (uint32_t i = 0; i < 16; ++i) to[i] = 16 * u + i < n ? p[i] : 0.0f;
}

}  // namespace smelt::cuda
