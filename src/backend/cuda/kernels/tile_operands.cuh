// What products with tiles multiply: rows of x in two planes, as fragments for mma.sync beside those of the
// tiles. x becomes integers of 16 bits under one scale for 32 columns for weights that are integers; halves,
// a coarse one and what it leaves, for weights that are halves. No products of matrices here.
#pragma once

#include "backend/cuda/kernels/tiles.cuh"
#include "backend/cuda/tile_args.h"

namespace smelt::cuda {

// d = a * b of 16 x 32 x 8 or 16 x 16 x 8 integers.
#ifdef SMELT_SOFTCUDA
inline int soft_dot(uint32_t w, uint32_t x, bool u8) {
    int sum = 0;
    for (int i = 0; i < 4; ++i) {
        const int v = static_cast<int8_t>(x >> (8 * i) & 255u);
        sum += (u8 ? static_cast<int>(w >> (8 * i) & 255u) : static_cast<int8_t>(w >> (8 * i) & 255u)) * v;
    }
    return sum;
}
// Register `reg` of a, rows g and g + 8, with b of columns 2j and 2j + 1.
inline void soft_mma(int* d, uint32_t upper_row, uint32_t lower_row, uint32_t b, bool u8) {
    const int me = static_cast<int>(lane());
    for (int q = 0; q < 4; ++q) {
        const uint32_t rows[2] = {__shfl_sync(~0u, upper_row, (me & ~3) + q),
                                  __shfl_sync(~0u, lower_row, (me & ~3) + q)};
        for (int c = 0; c < 2; ++c) {
            const uint32_t column = __shfl_sync(~0u, b, 4 * (2 * (me & 3) + c) + q);
            d[c] += soft_dot(rows[0], column, u8);
            d[2 + c] += soft_dot(rows[1], column, u8);
        }
    }
}
template <bool u8>
void mma_k32(int* d, const uint32_t* a, uint2 b) {
    for (int i = 0; i < 4; ++i) d[i] = 0;
    soft_mma(d, a[0], a[1], b.x, u8);
    soft_mma(d, a[2], a[3], b.y, u8);
}
inline void mma_k16(int* d, uint32_t a0, uint32_t a1, uint32_t b) {
    for (int i = 0; i < 4; ++i) d[i] = 0;
    soft_mma(d, a0, a1, b, false);
}
// Of halves, 16 x 16 x 8; added: to what d has.
template <bool added>
void mma_halves(float* d, const uint32_t* a, uint32_t b0, uint32_t b1) {
    for (int i = 0; i < 4 && !added; ++i) d[i] = 0;
    const int me = static_cast<int>(lane());
    const auto dot = [](uint32_t w, uint32_t x) {
        return f16_to_f32(static_cast<uint16_t>(w)) * f16_to_f32(static_cast<uint16_t>(x)) +
               f16_to_f32(static_cast<uint16_t>(w >> 16)) * f16_to_f32(static_cast<uint16_t>(x >> 16));
    };
    for (int q = 0; q < 4; ++q) {
        uint32_t rows[4];
        for (int r = 0; r < 4; ++r) rows[r] = __shfl_sync(~0u, a[r], (me & ~3) + q);
        for (int c = 0; c < 2; ++c) {
            const int from = 4 * (2 * (me & 3) + c) + q;
            const uint32_t first = __shfl_sync(~0u, b0, from), second = __shfl_sync(~0u, b1, from);
            d[c] += dot(rows[0], first) + dot(rows[2], second);
            d[2 + c] += dot(rows[1], first) + dot(rows[3], second);
        }
    }
}
#else
template <bool u8>
INLINE void mma_k32(int* d, const uint32_t* a, uint2 b) {
    if constexpr (u8) {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.u8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%10,%10,%10,%10};"
            : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(0));
    } else {
        asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%10,%10,%10,%10};"
            : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(0));
    }
}
INLINE void mma_k16(int* d, uint32_t a0, uint32_t a1, uint32_t b) {
    asm("mma.sync.aligned.m16n8k16.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%7,%7,%7,%7};"
        : "=r"(d[0]), "=r"(d[1]), "=r"(d[2]), "=r"(d[3])
        : "r"(a0), "r"(a1), "r"(b), "r"(0));
}
template <bool added>
INLINE void mma_halves(float* d, const uint32_t* a, uint32_t b0, uint32_t b1) {
    if constexpr (added) {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%0,%1,%2,%3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    } else {
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
            "{%10,%10,%10,%10};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
    }
}

#endif

// Of 32 columns of a row of x: its scale, and sums of its integers: all, the first and the second 16.
struct alignas(16) GroupOfX {
    float scale;
    int all, first, second;
};
static_assert(sizeof(GroupOfX) == tile_group_bytes);
struct NoGroup {};  // halves need neither

// Adds a group's products to the sums of rows g and g + 8, for the row of x that the lane has.
template <class T>
INLINE void add_group(const int* d, const GroupScales& s, float x_scale, int x_sum, float* sums) {
    const float x_total = T::has_min ? x_scale * static_cast<float>(x_sum) : 0.0f;
    UNROLL for (int side = 0; side < 2; ++side) {
        int sum = d[2 * side] * 256 + d[2 * side + 1];
        if (T::has_zero) sum -= s.zero[side] * x_sum;
        sums[side] = fmaf(static_cast<float>(sum), s.d[side] * x_scale, sums[side]);
        if (T::has_min) sums[side] = fmaf(-s.min[side], x_total, sums[side]);
    }
}
template <class T>
INLINE void add_chunk(const uint32_t* a, const GroupScales* s, uint4 b, NoGroup, float* sums) {
    float d[4];
    mma_halves<false>(d, a, b.x, b.y);
    mma_halves<true>(d, a + 4, b.z, b.w);
    UNROLL for (int side = 0; side < 2; ++side) sums[side] =
        fmaf(fmaf(d[2 * side + 1], 1.0f / halves_apart, d[2 * side]), s[0].d[side], sums[side]);
}
template <class T>
INLINE void add_chunk(const uint32_t* a, const GroupScales* s, uint2 b, const GroupOfX& x, float* sums) {
    int d[4];
    if constexpr (T::group == 32) {
        mma_k32<T::u8>(d, a, b);
        add_group<T>(d, s[0], x.scale, x.all, sums);
    } else {
        mma_k16(d, a[0], a[1], b.x);
        add_group<T>(d, s[0], x.scale, x.first, sums);
        mma_k16(d, a[2], a[3], b.y);
        add_group<T>(d, s[1], x.scale, x.second, sums);
    }
}

// --- x as integers ---

// To even; what is no number is some integer, its scale says what it is.
INLINE int nearest_int(float x) {
#ifdef SMELT_SOFTCUDA
    return x != x ? 0 : static_cast<int>(std::nearbyint(x));
#else
    return __float2int_rn(x);
#endif
}
INLINE uint32_t larger(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

// Four neighbouring columns, as the eight lanes of their group have them: word w of the group. The scale is
// that of the largest; groups below 2^-110 are zeros.
struct QuantizedWord {
    uint32_t high, low;
    GroupOfX group;  // in every lane of the eight
};
template <bool with_sums>
INLINE QuantizedWord quantize_word(float4 v) {
    const auto bits = [](float f) { return bit_cast_to<uint32_t>(f) & 0x7fffffffu; };
    uint32_t top = larger(larger(bits(v.x), bits(v.y)), larger(bits(v.z), bits(v.w)));  // NaN is above all
    UNROLL for (int apart = 1; apart < 8; apart *= 2) top =
        larger(top, __shfl_xor_sync(0xffffffffu, top, apart));
    const bool nothing = top < 0x08800000u;
    const float scale = nothing ? 0.0f : bit_cast_to<float>(top) * (1.0f / 32639.0f);
    const float per = nothing ? 0.0f : 1.0f / scale;
    QuantizedWord q = {0, 0, {scale, 0, 0, 0}};
    const float values[4] = {v.x, v.y, v.z, v.w};
    int sum = 0, n[4];
    UNROLL for (int i = 0; i < 4; ++i) {
        n[i] = nearest_int(values[i] * per);
        sum += n[i];
    }
    // Low bytes have a sign, high ones are what is left: n + 128 has them both.
    const uint32_t even =
        permuted(static_cast<uint32_t>(n[0] + 128), static_cast<uint32_t>(n[1] + 128), 0x5140);
    const uint32_t odd =
        permuted(static_cast<uint32_t>(n[2] + 128), static_cast<uint32_t>(n[3] + 128), 0x5140);
    q.low = permuted(even, odd, 0x5410) ^ 0x80808080u;
    q.high = permuted(even, odd, 0x7632);
    if (!with_sums) return q;
    UNROLL for (int apart = 1; apart < 4; apart *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, apart);
    const int other = __shfl_xor_sync(0xffffffffu, sum, 4);
    const bool is_first = (threadIdx.x & 4) == 0;
    q.group.all = sum + other;
    q.group.first = is_first ? sum : other;
    q.group.second = is_first ? other : sum;
    return q;
}
// Word w of a group's 32 columns lies where lane j finds words j and j + 4 side by side.
INLINE int word_place(int w) {
    return 2 * (w & 3) + (w >> 2);
}
INLINE float4 load_four(const float* row, uint32_t column, uint32_t cols) {
    float4 v = {};
    if ((reinterpret_cast<uintptr_t>(row) & 15) == 0 && cols % 4 == 0) {
        if (column < cols) v = *reinterpret_cast<const float4*>(row + column);
        return v;
    }
    if (column < cols) v.x = row[column];
    if (column + 1 < cols) v.y = row[column + 1];
    if (column + 2 < cols) v.z = row[column + 2];
    if (column + 3 < cols) v.w = row[column + 3];
    return v;
}

// Four neighbouring columns as halves: coarse ones, then what they leave, two in a word.
struct SplitWord {
    uint2 coarse, rest;
};
INLINE SplitWord split_word(float4 v) {
    const float values[4] = {v.x, v.y, v.z, v.w};
    uint32_t coarse[4], rest[4];
    UNROLL for (int i = 0; i < 4; ++i) {
        const float x = values[i] * halves_unit;
        coarse[i] = float_to_half(x);
        rest[i] = float_to_half((x - half_to_float(static_cast<uint16_t>(coarse[i]))) * halves_apart);
    }
    return {{coarse[0] | coarse[1] << 16, coarse[2] | coarse[3] << 16},
            {rest[0] | rest[1] << 16, rest[2] | rest[3] << 16}};
}

// Rows of x by sets of four: of each group of columns the sets one after another, each fragments and then
// scales. Words are what a lane reads of a fragment: eight a row, four of them of each plane.
struct SetOfX {
    using Words = uint2;
    using Group = GroupOfX;
    static constexpr int group_bytes = tile_group_bytes;
    uint32_t fragments[tile_value_bytes / 4];
    GroupOfX groups[tile_tokens];
    INLINE GroupOfX group(uint32_t row) const { return groups[row]; }
};
static_assert(sizeof(SetOfX) == tile_set_bytes);
struct HalfSetOfX {
    using Words = uint4;
    using Group = NoGroup;
    static constexpr int group_bytes = 0;
    uint32_t fragments[half_set_bytes / 4];
    INLINE NoGroup group(uint32_t) const { return {}; }
};
static_assert(sizeof(HalfSetOfX) == half_set_bytes);
template <bool halves>
struct SetFor {
    using Type = SetOfX;
};
template <>
struct SetFor<true> {
    using Type = HalfSetOfX;
};
template <class T>
using SetOf = typename SetFor<T::halves>::Type;

// Puts word w, four columns, of a row into its fragment, and what its group has. All lanes of a warp take
// part, also those whose word is not `there`.
template <class T>
INLINE void put_word(uint32_t* row, GroupOfX* group, uint32_t w, float4 v, bool there) {
    if constexpr (T::halves) {
        const SplitWord s = split_word(v);
        if (!there) return;
        reinterpret_cast<uint2*>(row)[w] = s.coarse;
        reinterpret_cast<uint2*>(row + 16)[w] = s.rest;
    } else {
        const QuantizedWord q = quantize_word < T::has_min || T::has_zero > (v);
        if (!there) return;
        uint32_t* to = row + word_place(static_cast<int>(w));
        to[0] = q.high;
        to[8] = q.low;
        if (w == 0) *group = q.group;
    }
}
// 32-bit words of a row in a fragment.
template <class T>
constexpr uint32_t words_of_row = 8 * sizeof(typename SetOf<T>::Words) / sizeof(uint32_t);

// For weights of any kind: whether they are halves is all that matters.
template <bool of_halves>
struct AnyTile {
    static constexpr bool halves = of_halves, has_min = true, has_zero = true;
};
// Blocks: (words of a row by 256, sets).
template <bool halves>
INLINE void put_rows(const QuantizeRowsArgs& a) {
    using T = AnyTile<halves>;
    const uint32_t n = rows_of(a.rows) * a.parts, word = blockIdx.x * blockDim.x + threadIdx.x,
                   set = blockIdx.y;
    if (set * tile_tokens >= n) return;
    const uint32_t group = word / 8, w = word % 8;
    float4 v[tile_tokens];
    UNROLL for (uint32_t r = 0; r < tile_tokens; ++r) {
        const uint32_t number = set * tile_tokens + r, row = number / a.parts;
        v[r] = {};
        if (number < n && group < a.n_groups)
            v[r] = load_four(a.x + (uint64_t{row} * a.x_stride + (number - row * a.parts) * a.cols), 4 * word,
                             a.cols);
    }
    auto& to = reinterpret_cast<SetOf<T>*>(a.values)[uint64_t{least(group, a.n_groups - 1)} * a.n_sets + set];
    UNROLL for (uint32_t r = 0; r < tile_tokens; ++r) {
        GroupOfX* of_row = nullptr;
        if constexpr (!halves) of_row = &to.groups[r];
        put_word<T>(to.fragments + r * words_of_row<T>, of_row, w, v[r], group < a.n_groups);
    }
}

}  // namespace smelt::cuda
