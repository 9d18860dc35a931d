// Floats, and the formats of 32 or 64 integers with one scale: each a block of bytes that holds block_len
// weights of one row, and decode16: of 16 of them from 16 * part on, of the block that b points to, in any
// memory of a device, or that something with the same members stands for. Super-blocks are in block_k.h,
// OCP's Microscaling in block_mx.h. Device-safe: host, Metal and CUDA compile this text.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
#endif

#include "base/half.h"

namespace smelt {

// 32 bits/weight.
struct BlockF32 {
    float value;
    DEVICE_CONSTANT int block_len = 1;
};
static_assert(sizeof(BlockF32) == 4);

// 16 bits/weight, IEEE half.
struct BlockF16 {
    F16 value;
    DEVICE_CONSTANT int block_len = 1;
};
static_assert(sizeof(BlockF16) == 2);

// 16 bits/weight, bfloat16.
struct BlockBF16 {
    BF16 value;
    DEVICE_CONSTANT int block_len = 1;
};
static_assert(sizeof(BlockBF16) == 2);

// GGUF Q8_0, 8.5 bits/weight: 32 int8 with one half scale; w = d * q.
struct BlockQ8_0 {
    F16 d;
    int8_t qs[32];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int quants_offset = sizeof(d);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        for (int i = 0; i < 16; ++i) out[i] = d * static_cast<float>(b->qs[16 * part + i]);
    }
};
static_assert(sizeof(BlockQ8_0) == 34);

// GGUF Q4_0, 4.5 bits/weight: 32 nibbles with one half scale; w = d * (q - 8). Low nibbles are weights 0..15.
struct BlockQ4_0 {
    F16 d;
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int quants_offset = sizeof(d);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        for (int i = 0; i < 16; ++i) out[i] = d * static_cast<float>(((b->qs[i] >> (4 * part)) & 15) - 8);
    }
};
static_assert(sizeof(BlockQ4_0) == 18);

// GGUF Q4_1, 5 bits/weight: nibbles as in Q4_0; w = d * q + m.
struct BlockQ4_1 {
    F16 d, m;
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int min_offset = sizeof(d), quants_offset = min_offset + sizeof(m);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, m = b->m;
        for (int i = 0; i < 16; ++i) out[i] = d * static_cast<float>((b->qs[i] >> (4 * part)) & 15) + m;
    }
};
static_assert(sizeof(BlockQ4_1) == 20);

// Of weight i, in its place above a nibble; the bits of 32 weights lie in one little-endian word.
template <class Bytes>
DEVICE_FN constexpr uint32_t word_of(Bytes bytes) {
    return static_cast<uint32_t>(bytes[0]) | static_cast<uint32_t>(bytes[1]) << 8 |
           static_cast<uint32_t>(bytes[2]) << 16 | static_cast<uint32_t>(bytes[3]) << 24;
}
DEVICE_FN constexpr int fifth_bit(uint32_t word, int i) {
    return static_cast<int>((word >> i) & 1u) << 4;
}

// GGUF Q5_0, 5.5 bits/weight: nibbles as in Q4_0, the fifth bit of weight i is bit i of qh (little-endian);
// w = d * (q - 16).
struct BlockQ5_0 {
    F16 d;
    uint8_t qh[4];
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int high_offset = sizeof(d), quants_offset = high_offset + sizeof(qh);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        const uint32_t qh = word_of(b->qh) >> (16 * part);
        for (int i = 0; i < 16; ++i) {
            out[i] = d * static_cast<float>((((b->qs[i] >> (4 * part)) & 15) | fifth_bit(qh, i)) - 16);
        }
    }
};
static_assert(sizeof(BlockQ5_0) == 22);

// GGUF Q5_1, 6 bits/weight: quants as in Q5_0; w = d * q + m.
struct BlockQ5_1 {
    F16 d, m;
    uint8_t qh[4];
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int min_offset = sizeof(d), high_offset = min_offset + sizeof(m),
                        quants_offset = high_offset + sizeof(qh);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, m = b->m;
        const uint32_t qh = word_of(b->qh) >> (16 * part);
        for (int i = 0; i < 16; ++i) {
            out[i] = d * static_cast<float>(((b->qs[i] >> (4 * part)) & 15) | fifth_bit(qh, i)) + m;
        }
    }
};
static_assert(sizeof(BlockQ5_1) == 24);

// qwen3.c Q8_0, 8.5 bits/weight: 64 int8 with one float scale; w = d * q. On disk the tensor is planar: all
// int8 first, then all scales (TensorView::scales); the block is gathered where it is used.
struct BlockQ8_G64 {
    float d;
    int8_t qs[64];
    DEVICE_CONSTANT int block_len = 64;
    DEVICE_CONSTANT int planar_scale_bytes = sizeof(float);  // the scale is the first member
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d;
        for (int i = 0; i < 16; ++i) out[i] = d * static_cast<float>(b->qs[16 * part + i]);
    }
};
static_assert(sizeof(BlockQ8_G64) == 68);

// GPTQ's and AWQ's weights as smelt holds them, 5 bits/weight: nibbles as in Q4_0, an integer zero point that
// a half holds exactly; w = d * (q - z), exact in float. Also for those of 2 and 3 bits.
struct BlockQ4_Z {
    F16 d, z;
    uint8_t qs[16];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int zero_offset = sizeof(d), quants_offset = zero_offset + sizeof(z);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, z = b->z;
        for (int i = 0; i < 16; ++i) out[i] = d * (static_cast<float>((b->qs[i] >> (4 * part)) & 15) - z);
    }
};
static_assert(sizeof(BlockQ4_Z) == 20);

// The same of 8 bits, 9 bits/weight.
struct BlockQ8_Z {
    F16 d, z;
    uint8_t qs[32];
    DEVICE_CONSTANT int block_len = 32;
    DEVICE_CONSTANT int zero_offset = sizeof(d), quants_offset = zero_offset + sizeof(z);
    template <class Block, class Out>
    DEVICE_FN static void decode16(Block b, int part, Out out) {
        const float d = b->d, z = b->z;
        for (int i = 0; i < 16; ++i) out[i] = d * (static_cast<float>(b->qs[16 * part + i]) - z);
    }
};
static_assert(sizeof(BlockQ8_Z) == 36);

#ifndef __METAL_VERSION__
// All weights of a block.
template <class Block, class Out>
DEVICE_FN inline void decode_whole(const Block& b, Out out) {
    if constexpr (Block::block_len == 1) {
        out[0] = b.value;
    } else {
        for (int part = 0; part < Block::block_len / 16; ++part) Block::decode16(&b, part, out + 16 * part);
    }
}
#endif

}  // namespace smelt
