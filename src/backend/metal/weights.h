// Sixteen weights of a row at a time, in registers: what matrix products and embeddings read. The arithmetic
// is that of quant/block*.h; here are the loads, as wide as a file's layout lets them be. For .metal files.
#pragma once

#include "quant/format_list.h"

namespace smelt {

// Bytes that lie in registers, as decode16 wants to see them: index i means byte i % 16 of what was loaded.
struct Bytes16 {
    uint4 words;
    uint8_t operator[](int i) const { return uint8_t(words[(i & 15) >> 2] >> (8 * (i & 3))); }
};
struct Int8s16 {
    uint4 words;
    int8_t operator[](int i) const { return int8_t(uint8_t(words[(i & 15) >> 2] >> (8 * (i & 3)))); }
};
struct Bytes8 {
    uint2 words;
    uint8_t operator[](int i) const { return uint8_t(words[(i & 7) >> 2] >> (8 * (i & 3))); }
};

// 16 bytes from anywhere: aligned words, and where they begin within one, the next word's share.
inline uint4 load16(device const uchar* base, ulong offset) {
    device const uint* p = (device const uint*)(base + (offset & ~ulong(3)));
    const uint shift = uint(offset & 3) * 8;
    const uint a = p[0], b = p[1], c = p[2], d = p[3];
    if (shift == 0) return uint4(a, b, c, d);
    const uint e = p[4], up = 32 - shift;
    return uint4(a >> shift | b << up, b >> shift | c << up, c >> shift | d << up, d >> shift | e << up);
}
inline uint2 load8(device const uchar* base, ulong offset) {
    device const uint* p = (device const uint*)(base + (offset & ~ulong(3)));
    const uint shift = uint(offset & 3) * 8;
    const uint a = p[0], b = p[1];
    if (shift == 0) return uint2(a, b);
    const uint c = p[2], up = 32 - shift;
    return uint2(a >> shift | b << up, b >> shift | c << up);
}
// The same where the host found all rows to begin at a multiple of 16.
inline uint4 load16_aligned(device const uchar* base, ulong offset) {
    return *(device const uint4*)(base + offset);
}

// A row of weights: bytes from the beginning of a bound buffer. `scales` is of planar formats alone.
struct WeightRow {
    device const uchar* data;
    device const uchar* scales;
    ulong offset, scales_offset;
    uint n;        // weights
    bool aligned;  // to 16 bytes
};

// Any format of whole blocks, byte by byte.
template <class Block>
struct WeightLoad {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const uint parts = Block::block_len / 16;
        device const Block* b = (device const Block*)(row.data + row.offset) + u / parts;
        Block::decode16(b, int(u % parts), w);
    }
};

// Floats: rows of any length.
template <>
struct WeightLoad<BlockF32> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        device const float* p = (device const float*)(row.data + row.offset) + 16 * u;
        if (row.aligned) {
            for (int i = 0; i < 4; ++i) {
                const float4 v = ((device const float4*)p)[i];
                for (int j = 0; j < 4; ++j) w[4 * i + j] = v[j];
            }
            return;
        }
        for (uint i = 0; i < 16; ++i) w[i] = 16 * u + i < row.n ? p[i] : 0.0f;
    }
};
template <>
struct WeightLoad<BlockF16> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        if (row.aligned) {
            for (int i = 0; i < 2; ++i) {
                const uint4 both = load16_aligned(row.data, row.offset + 32 * u + 16 * i);
                for (int j = 0; j < 4; ++j) {
                    const half2 pair = as_type<half2>(both[j]);
                    w[8 * i + 2 * j] = pair.x;
                    w[8 * i + 2 * j + 1] = pair.y;
                }
            }
            return;
        }
        device const half* p = (device const half*)(row.data + row.offset) + 16 * u;
        for (uint i = 0; i < 16; ++i) w[i] = 16 * u + i < row.n ? float(p[i]) : 0.0f;
    }
};
template <>
struct WeightLoad<BlockBF16> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        if (row.aligned) {
            for (int i = 0; i < 2; ++i) {
                const uint4 both = load16_aligned(row.data, row.offset + 32 * u + 16 * i);
                for (int j = 0; j < 4; ++j) {
                    w[8 * i + 2 * j] = as_type<float>(both[j] << 16);
                    w[8 * i + 2 * j + 1] = as_type<float>(both[j] & 0xffff0000u);
                }
            }
            return;
        }
        device const ushort* p = (device const ushort*)(row.data + row.offset) + 16 * u;
        for (uint i = 0; i < 16; ++i) w[i] = 16 * u + i < row.n ? as_type<float>(uint(p[i]) << 16) : 0.0f;
    }
};

// Formats of the hot paths, with what decode16 reads of a block in registers.
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

inline float half_at(device const uchar* data, ulong offset) {
    return *(device const half*)(data + offset);
}

template <>
struct WeightLoad<BlockQ8_0> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 2) * sizeof(BlockQ8_0);
        ScaledInt8s b = {half_at(row.data, block),
                         {load16(row.data, block + BlockQ8_0::quants_offset + 16 * (u % 2))}};
        BlockQ8_0::decode16(&b, int(u % 2), w);
    }
};
template <>
struct WeightLoad<BlockQ8_G64> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const float d = *(device const float*)(row.scales + row.scales_offset + sizeof(float) * (u / 4));
        const ulong at = row.offset + 16 * u;
        ScaledInt8s b = {d, {row.aligned ? load16_aligned(row.data, at) : load16(row.data, at)}};
        BlockQ8_G64::decode16(&b, int(u % 4), w);
    }
};
template <>
struct WeightLoad<BlockQ4_0> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 2) * sizeof(BlockQ4_0);
        ScaledBytes b = {half_at(row.data, block), {load16(row.data, block + BlockQ4_0::quants_offset)}};
        BlockQ4_0::decode16(&b, int(u % 2), w);
    }
};
template <>
struct WeightLoad<BlockIQ4_NL> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 2) * sizeof(BlockIQ4_NL);
        ScaledBytes b = {half_at(row.data, block), {load16(row.data, block + BlockIQ4_NL::quants_offset)}};
        BlockIQ4_NL::decode16(&b, int(u % 2), w);
    }
};
template <>
struct WeightLoad<BlockMXFP4> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 2) * sizeof(BlockMXFP4);
        MicroscaledBytes b = {{row.data[block]}, {load16(row.data, block + BlockMXFP4::quants_offset)}};
        BlockMXFP4::decode16(&b, int(u % 2), w);
    }
};
template <class Element>
struct WeightLoad<BlockMXFP8<Element>> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 2) * sizeof(BlockMXFP8<Element>);
        MicroscaledBytes b = {{row.data[block]},
                              {load16(row.data, block + BlockMXFP8<Element>::quants_offset + 16 * (u % 2))}};
        BlockMXFP8<Element>::decode16(&b, int(u % 2), w);
    }
};
// Planar: eight bytes of quants a unit, scales elsewhere.
template <>
struct WeightLoad<BlockMXFP4_HF> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        MicroscaledHalf b = {{row.scales[row.scales_offset + u / 2]}, {load8(row.data, row.offset + 8 * u)}};
        BlockMXFP4_HF::decode16(&b, int(u % 2), w);
    }
};
template <>
struct WeightLoad<BlockNVFP4_HF> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const float d = *(device const float*)(row.scales + row.scales_offset + sizeof(float) * u);
        ScaledHalf b = {d, {load8(row.data, row.offset + 8 * u)}};
        BlockNVFP4_HF::decode16(&b, 0, w);
    }
};

// Super-blocks: 16 weights lie in 16 bytes, the small fields are read where they are.
struct Unit45_K {
    float d, dmin;
    device const uchar* scales;
    Bytes16 qh, qs;
};
template <>
struct WeightLoad<BlockQ4_K> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 16) * sizeof(BlockQ4_K);
        const uint part = u % 16;
        Unit45_K b = {half_at(row.data, block),
                      half_at(row.data, block + BlockQ4_K::min_offset),
                      row.data + (block + BlockQ4_K::scales_offset),
                      {uint4(0)},
                      {load16(row.data, block + BlockQ4_K::quants_offset + part / 4 * 32 + part % 2 * 16)}};
        BlockQ4_K::decode16(&b, int(part), w);
    }
};
template <>
struct WeightLoad<BlockQ5_K> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 16) * sizeof(BlockQ5_K);
        const uint part = u % 16;
        Unit45_K b = {half_at(row.data, block),
                      half_at(row.data, block + BlockQ5_K::min_offset),
                      row.data + (block + BlockQ5_K::scales_offset),
                      {load16(row.data, block + BlockQ5_K::high_offset + part % 2 * 16)},
                      {load16(row.data, block + BlockQ5_K::quants_offset + part / 4 * 32 + part % 2 * 16)}};
        BlockQ5_K::decode16(&b, int(part), w);
    }
};
struct Unit6_K {
    Bytes16 ql, qh;
    device const char* scales;
    float d;
};
template <>
struct WeightLoad<BlockQ6_K> {
    static void unit(thread const WeightRow& row, uint u, thread float* w) {
        const ulong block = row.offset + ulong(u / 16) * sizeof(BlockQ6_K);
        const uint part = u % 16, half_block = part / 8, quarter = part / 2 % 4, first = part % 2 * 16;
        Unit6_K b = {{load16(row.data, block + 64 * half_block + quarter % 2 * 32 + first)},
                     {load16(row.data, block + BlockQ6_K::high_offset + 32 * half_block + first)},
                     (device const char*)(row.data + (block + BlockQ6_K::scales_offset)),
                     half_at(row.data, block + BlockQ6_K::d_offset)};
        BlockQ6_K::decode16(&b, int(part), w);
    }
};

// Sixteen values of an activation row, zeros beyond its end.
inline void load_activations(device const float* x, uint u, uint n, bool aligned, thread float* to) {
    device const float* p = x + 16 * u;
    if (aligned && 16 * u + 16 <= n) {
        for (int i = 0; i < 4; ++i) {
            const float4 v = ((device const float4*)p)[i];
            for (int j = 0; j < 4; ++j) to[4 * i + j] = v[j];
        }
        return;
    }
    for (uint i = 0; i < 16; ++i) to[i] = 16 * u + i < n ? p[i] : 0.0f;
}

}  // namespace smelt
