// Attention of few tokens: a block has one span of positions of one head of k and v, for the query heads of
// one token that share it; of the blocks of a token's heads, the last to end merges the spans. To the bit
// what attention.cu makes of them: scores are chains over the dimensions, the sums of v chains over the
// positions of a span, rounds take part one after another. But here the four rounds of a span are scored at
// once, and k and v of the whole span are on their way before the first is looked at: what earlier steps left
// in the cache while the kernel before this one still runs.
//
// Bytes: k and v once for all query heads that share them. A token of a 4B model at 16,384 positions (8 heads
// of 128, F16, 36 layers) reads 2.4 GB, 0.56 ms at 4.3 TB/s.
#include "backend/cuda/kernels/softmax_sum.cuh"

namespace smelt::cuda {

// How a span lies in shared memory: halves as they are, other formats as floats.
template <class Block>
struct Staged {
    using T = float;
    INLINE static void store(const WeightRow& row, uint32_t u, T* to) {
        float values[16];
        WeightLoad<Block>::unit(row, u, values);
        UNROLL for (int i = 0; i < 4; ++i) reinterpret_cast<float4*>(to)[i] = {
            values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]};
    }
    INLINE static void eight(const T* from, float* to) {
        UNROLL for (int i = 0; i < 2; ++i) {
            const float4 v = reinterpret_cast<const float4*>(from)[i];
            to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
        }
    }
    INLINE static float one(T x) { return x; }
    INLINE static void wait() {}
};
template <class Convert>
struct StagedHalves {
    using T = uint16_t;
    INLINE static void store(const WeightRow& row, uint32_t u, T* to) {
        copy16_async(to, row.data + 32 * u);
        copy16_async(to + 8, row.data + (32 * u + 16));
    }
    INLINE static void wait() { wait_for_copies(); }
    INLINE static void eight(const T* from, float* to) {
        const uint4 v = *reinterpret_cast<const uint4*>(from);
        const uint32_t words[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (int i = 0; i < 4; ++i) {
            to[2 * i] = one(static_cast<uint16_t>(words[i] & 0xffffu));
            to[2 * i + 1] = one(static_cast<uint16_t>(words[i] >> 16));
        }
    }
    INLINE static float one(T x) { return Convert{}(x); }
};
template <>
struct Staged<BlockF16> : StagedHalves<HalfToFloat> {};
template <>
struct Staged<BlockBF16> : StagedHalves<BrainToFloat> {};

// Positions [first, end) of a span that begins at `span_first`, by all threads.
template <class Block>
INLINE void stage(typename Staged<Block>::T* to, uint32_t pitch, const AttentionArgs& a, const KvArgs& kv,
                  const int32_t* blocks, uint32_t head, uint32_t span_first, uint32_t first, uint32_t end) {
    const uint32_t n_units = kv.dim / 16, count = end > first ? (end - first) * n_units : 0;
    UNROLL_BY(4) for (uint32_t i = threadIdx.x; i < count; i += decode_threads) {
        const uint32_t p = i / n_units, u = i - p * n_units, position = first + p;
        const uint64_t slot = slot_of(a, blocks, position);
        const WeightRow row = {kv.rows + (slot * kv.n_heads + head) * kv.row_bytes, nullptr, kv.dim, true};
        Staged<Block>::store(row, u, to + (position - span_first) * pitch + 16 * u);
    }
}

// What the spans of a token's heads leave behind becomes its output, by the block that is last to end.
template <int n_heads>
INLINE void merge_spans(const AttentionArgs& a, uint32_t token, uint32_t first_head, uint32_t heads,
                        uint32_t first_span, uint32_t last_span) {
    constexpr uint32_t at_once = 64;
    __shared__ MergeFactors factors[n_heads][at_once];
    __shared__ SoftmaxSum totals[n_heads];
    const uint32_t stride = a.v.dim + 2;
    const auto spans_of = [&](uint32_t h) {
        return a.partial + (static_cast<uint64_t>(token) * a.n_heads + first_head + h) * a.n_spans * stride;
    };
    constexpr uint32_t lane_heads = n_heads / 2;
    const uint32_t d = threadIdx.x % (decode_threads / 2), half = threadIdx.x / (decode_threads / 2);
    for (uint32_t d0 = 0; d0 < a.v.dim; d0 += decode_threads / 2) {
        float v_sum[lane_heads];
        UNROLL for (uint32_t i = 0; i < lane_heads; ++i) v_sum[i] = 0;
        SoftmaxSum total = {-infinity, 0};  // of the heads that warp 0 goes through, a lane each
        for (uint32_t first = first_span; first <= last_span; first += at_once) {
            const uint32_t n = least(at_once, last_span + 1 - first);
            __syncthreads();
            if (threadIdx.x < heads) {
                for (uint32_t s = 0; s < n; ++s) {
                    const float* of = spans_of(threadIdx.x) + (first + s) * stride + a.v.dim;
                    const SoftmaxSum sum = {of[0], of[1]};
                    MergeFactors f = {1, 0};
                    if (sum.sum != 0) f = merge(total, sum);
                    factors[threadIdx.x][s] = f;
                }
                totals[threadIdx.x] = total;
            }
            __syncthreads();
            UNROLL for (uint32_t i = 0; i < lane_heads; ++i) {
                const uint32_t h = half * lane_heads + i;
                if (h >= heads || d0 + d >= a.v.dim) continue;
                const float* from = spans_of(h) + d0 + d;
                UNROLL_BY(8) for (uint32_t s = 0; s < n; ++s) {
                    const MergeFactors f = factors[h][s];
                    v_sum[i] = v_sum[i] * f.keep + from[(first + s) * stride] * f.take;
                }
            }
        }
        UNROLL for (uint32_t i = 0; i < lane_heads; ++i) {
            const uint32_t h = half * lane_heads + i;
            if (h >= heads || d0 + d >= a.v.dim) continue;
            a.out[static_cast<uint64_t>(token) * a.out_stride + (first_head + h) * a.v.dim + d0 + d] =
                finish(v_sum[i], totals[h], a.sinks == nullptr ? nullptr : a.sinks + first_head + h);
        }
    }
}

// Blocks: (tokens, heads of k and v by groups of n_heads query heads, spans).
template <class Block, int n_heads>
INLINE void attention_decode(const AttentionArgs& a) {
    using S = Staged<Block>;
    using T = typename S::T;
    constexpr uint32_t rounds = attention_span / attention_round, lane_heads = n_heads / 2;
    static_assert(decode_threads == 2 * attention_span);
    DYNAMIC_SHARED(uint4, all_shared);
    __shared__ __align__(16) float weights[n_heads][attention_span];
    __shared__ float tops[n_heads][rounds], sums[n_heads][rounds];
    __shared__ uint32_t n_before;
    let_next_start();
    // Positions and tables are of the step's input: they are there before any kernel of the step begins.
    const uint32_t token = blockIdx.x, span = blockIdx.z;
    if (token >= rows_of(a.rows)) return wait_for_previous();
    const auto high = static_cast<uint32_t>(a.positions[token]);
    const uint32_t low = first_seen(high, a.window), first = span * attention_span;
    const uint32_t first_span = low / attention_span, last_span = high / attention_span;
    if (span < first_span || span > last_span) return wait_for_previous();
    const uint32_t n_groups = (a.n_rep + n_heads - 1) / n_heads, kv_head = blockIdx.y / n_groups;
    const uint32_t first_head = kv_head * a.n_rep + blockIdx.y % n_groups * n_heads;
    const uint32_t heads = least(n_heads, (kv_head + 1) * a.n_rep - first_head);
    uint32_t seq = 0;
    while (token >= static_cast<uint32_t>(a.seq_start[seq + 1])) ++seq;
    const int32_t* blocks = a.block_table + static_cast<uint64_t>(seq) * a.max_blocks;

    const uint32_t k_dim = a.k.dim, v_dim = a.v.dim, extra = 16 / sizeof(T);
    auto* keys = reinterpret_cast<T*>(all_shared);
    const uint32_t k_pitch = k_dim + extra, v_pitch = v_dim + extra;
    T* values = keys + attention_span * k_pitch;
    auto* query = reinterpret_cast<float*>(values + attention_span * v_pitch);
    // What earlier steps put into the cache need not wait for the kernel before this one. The step's own
    // tokens have the last positions, also where each sees all of them.
    const auto end_token = static_cast<uint32_t>(a.seq_start[seq + 1]);
    const uint32_t first_new = static_cast<uint32_t>(a.positions[end_token - 1]) + 1 -
                               (end_token - static_cast<uint32_t>(a.seq_start[seq]));
    const uint32_t begin = low > first ? low : first, end = least(high + 1, first + attention_span);
    const uint32_t old_end = least(end, first_new > begin ? first_new : begin);
    stage<Block>(keys, k_pitch, a, a.k, blocks, kv_head, first, begin, old_end);
    stage<Block>(values, v_pitch, a, a.v, blocks, kv_head, first, begin, old_end);
    wait_for_previous();
    stage<Block>(keys, k_pitch, a, a.k, blocks, kv_head, first, old_end, end);
    stage<Block>(values, v_pitch, a, a.v, blocks, kv_head, first, old_end, end);
    const float* q = a.q + static_cast<uint64_t>(token) * a.q_stride + first_head * k_dim;
    for (uint32_t i = threadIdx.x; i < heads * k_dim; i += decode_threads) query[i] = q[i];
    S::wait();
    __syncthreads();

    // scores; a warp has a round and half of the heads, a lane a position
    const uint32_t in_span = threadIdx.x % attention_span, half = threadIdx.x / attention_span;
    const uint32_t round = in_span / 32, position = first + in_span, first_of_half = half * lane_heads;
    const bool takes_part = low <= first + 32 * round + 31 && high >= first + 32 * round;
    const bool visible = position >= low && position <= high;
    float scores[lane_heads];
    UNROLL for (uint32_t h = 0; h < lane_heads; ++h) scores[h] = 0;
    if (takes_part) {
        const T* key = keys + in_span * k_pitch;
        UNROLL_BY(2) for (uint32_t d = 0; d < k_dim; d += 8) {
            float k[8];
            S::eight(key + d, k);
            UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
                if (first_of_half + h >= heads) continue;
                float some[8];
                Staged<BlockF32>::eight(query + (first_of_half + h) * k_dim + d, some);
                UNROLL for (int i = 0; i < 8; ++i) scores[h] = fmaf(some[i], k[i], scores[h]);
            }
        }
    }
    UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
        if (first_of_half + h >= heads) continue;
        float score = scores[h] * a.scale;
        if (a.soft_cap > 0) score = soft_capped(score, a.soft_cap);
        scores[h] = visible ? score : -infinity;
        const float top = lanes_max(scores[h]);
        if (lane() == 0) tops[first_of_half + h][round] = top;
    }
    __syncthreads();
    // the largest score of this round and those before
    UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
        if (first_of_half + h >= heads) continue;
        float top = -infinity;
        for (uint32_t r = 0; r <= round; ++r) top = fmaxf(top, tops[first_of_half + h][r]);
        const float weight = takes_part ? expf(scores[h] - top) : 0.0f;
        weights[first_of_half + h][in_span] = weight;
        const float sum = lanes_sum(weight);
        if (lane() == 0) sums[first_of_half + h][round] = sum;
    }
    __syncthreads();

    // sums of v: a thread has dimensions of half of the heads
    const uint32_t from = begin - first, to = end - 1 - first;
    const bool alone = first_span == last_span;
    for (uint32_t d = in_span; d < v_dim; d += attention_span) {
        float v_sum[lane_heads], top[lane_heads], sum[lane_heads];
        UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
            v_sum[h] = sum[h] = 0;
            top[h] = -infinity;
        }
        for (uint32_t r = from / 32; r <= to / 32; ++r) {
            UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
                if (first_of_half + h >= heads) continue;
                const float next = fmaxf(top[h], tops[first_of_half + h][r]), keep = expf(top[h] - next);
                sum[h] = sum[h] * keep + sums[first_of_half + h][r];
                top[h] = next;
                v_sum[h] *= keep;
            }
            const uint32_t low_p = 32 * r > from ? 32 * r : from, high_p = least(32 * r + 31, to);
            UNROLL_BY(8) for (uint32_t p = low_p; p <= high_p; ++p) {
                const float value = S::one(values[p * v_pitch + d]);
                UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
                    if (first_of_half + h < heads)
                        v_sum[h] = fmaf(weights[first_of_half + h][p], value, v_sum[h]);
                }
            }
        }
        UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
            if (first_of_half + h >= heads) continue;
            const uint32_t head = first_head + first_of_half + h;
            if (alone) {
                SoftmaxSum total = {-infinity, 0};
                const MergeFactors f = merge(total, {top[h], sum[h]});
                a.out[static_cast<uint64_t>(token) * a.out_stride + head * v_dim + d] = finish(
                    0.0f * f.keep + v_sum[h] * f.take, total, a.sinks == nullptr ? nullptr : a.sinks + head);
                continue;
            }
            float* out = a.partial +
                         ((static_cast<uint64_t>(token) * a.n_heads + head) * a.n_spans + span) * (v_dim + 2);
            out[d] = v_sum[h];
            if (d == 0) {
                out[v_dim] = top[h];
                out[v_dim + 1] = sum[h];
            }
        }
    }
    if (alone) return;
    __threadfence();
    __syncthreads();
    uint32_t* n_done = a.n_done + (token * n_groups * a.k.n_heads + blockIdx.y);
    if (threadIdx.x == 0) n_before = atomicAdd(n_done, 1u);
    __syncthreads();
    if (n_before != last_span - first_span) return;
    __threadfence();
    merge_spans<n_heads>(a, token, first_head, heads, first_span, last_span);
    if (threadIdx.x == 0) *n_done = 0;
}

#define DECODE_KERNELS(format)                                            \
    OVERLAPPING_KERNEL(attention_decode_4_##format, AttentionArgs, 256) { \
        attention_decode<Block##format, 4>(a);                            \
    }                                                                     \
    OVERLAPPING_KERNEL(attention_decode_8_##format, AttentionArgs, 256) { \
        attention_decode<Block##format, 8>(a);                            \
    }
DECODE_KERNELS(F16)
DECODE_KERNELS(BF16)
DECODE_KERNELS(F32)
DECODE_KERNELS(Q8_0)
DECODE_KERNELS(Q4_0)
DECODE_KERNELS(MXFP8_E4M3)

}  // namespace smelt::cuda
