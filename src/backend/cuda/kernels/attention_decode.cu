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

// How a span lies in shared memory: halves as they are, other formats as floats. A row is staged in pieces,
// of which neighbouring threads have neighbours.
template <class Block>
struct Staged {
    using T = float;
    static constexpr uint32_t piece = 16;
    INLINE static void store(const uint8_t* row, uint32_t dim, uint32_t u, T* to) {
        float values[16];
        WeightLoad<Block>::unit({row, nullptr, dim, true}, u, values);
        UNROLL for (int i = 0; i < 4; ++i) reinterpret_cast<float4*>(to)[i] = {
            values[4 * i], values[4 * i + 1], values[4 * i + 2], values[4 * i + 3]};
    }
    INLINE static void eight(const T* from, float* to) {
        UNROLL for (int i = 0; i < 2; ++i) {
            const float4 v = reinterpret_cast<const float4*>(from)[i];
            to[4 * i] = v.x, to[4 * i + 1] = v.y, to[4 * i + 2] = v.z, to[4 * i + 3] = v.w;
        }
    }
    INLINE static float2 two(const T* from) { return *reinterpret_cast<const float2*>(from); }
};
template <class Convert>
struct StagedHalves {
    using T = uint16_t;
    static constexpr uint32_t piece = 8;
    INLINE static void store(const uint8_t* row, uint32_t, uint32_t u, T* to) {
        copy16_async(to, row + 16 * u);
    }
    INLINE static void eight(const T* from, float* to) {
        const uint4 v = *reinterpret_cast<const uint4*>(from);
        const uint32_t words[4] = {v.x, v.y, v.z, v.w};
        UNROLL for (int i = 0; i < 4; ++i) {
            const float2 both = floats(words[i]);
            to[2 * i] = both.x, to[2 * i + 1] = both.y;
        }
    }
    INLINE static float2 two(const T* from) { return floats(*reinterpret_cast<const uint32_t*>(from)); }
    INLINE static float2 floats(uint32_t word) {
        return {Convert{}(static_cast<uint16_t>(word & 0xffffu)),
                Convert{}(static_cast<uint16_t>(word >> 16))};
    }
};
template <>
struct Staged<BlockF16> : StagedHalves<HalfToFloat> {};
template <>
struct Staged<BlockBF16> : StagedHalves<BrainToFloat> {};

// Positions [first, end) of a span, counted from its beginning, by all threads; rows[p] is where the cache
// has position p.
template <class Block>
INLINE void stage(typename Staged<Block>::T* to, uint32_t pitch, uint32_t dim, const uint8_t* const* rows,
                  uint32_t first, uint32_t end) {
    constexpr uint32_t piece = Staged<Block>::piece;
    const uint32_t n_pieces = dim / piece;
    uint32_t shift = 0;  // of the threads of a row
    while (1u << shift < n_pieces) ++shift;
    const uint32_t at = threadIdx.x & ((1u << shift) - 1), apart = decode_threads >> shift;
    if (at >= n_pieces) return;
    first += threadIdx.x >> shift;
    to += first * pitch + piece * at;
    UNROLL_BY(4)
    for (uint32_t p = first; p < end; p += apart, to += apart * pitch)
        Staged<Block>::store(rows[p], dim, at, to);
}

// A warp merges the sums of up to 32 spans of a head, a lane each, into `total`: what each span's sums of v
// and those before it are multiplied by. As merge() one after another, but that the largest score up to a
// span, and what depends on it alone, is known to all lanes at once.
INLINE MergeFactors merge_at_once(SoftmaxSum& total, SoftmaxSum of_lane, uint32_t n) {
    const bool any = lane() < n && of_lane.sum != 0;
    float top = any ? of_lane.top : -infinity;
    UNROLL for (uint32_t apart = 1; apart < 32; apart *= 2) {
        const float other = __shfl_sync(0xffffffffu, top, static_cast<int>((lane() - apart) & 31u));
        if (lane() >= apart) top = fmaxf(top, other);
    }
    top = fmaxf(top, total.top);
    const float previous = __shfl_sync(0xffffffffu, top, static_cast<int>((lane() - 1) & 31u));
    const float before = lane() == 0 ? total.top : previous;
    MergeFactors f = {1, 0};
    if (any) f = {expf(before - top), expf(of_lane.top - top)};
    const float taken = any ? of_lane.sum * f.take : 0.0f;
    for (uint32_t s = 0; s < n; ++s) {
        const float keep = __shfl_sync(0xffffffffu, f.keep, static_cast<int>(s)),
                    more = __shfl_sync(0xffffffffu, taken, static_cast<int>(s));
        total.sum = total.sum * keep + more;
    }
    total.top = __shfl_sync(0xffffffffu, top, 31);
    return f;
}

// Which of a block's query heads and pairs of v's dimensions a thread adds up.
constexpr uint32_t pair_lanes = 64, head_groups = decode_threads / pair_lanes;

// What the spans of a token's heads leave behind becomes its output, by the block that is last to end; where
// it had keys, it keeps what spans are multiplied by.
template <int n_heads>
INLINE void merge_spans(const AttentionArgs& a, void* room, uint32_t token, uint32_t first_head,
                        uint32_t heads, uint32_t first_span, uint32_t last_span) {
    constexpr uint32_t at_once = 64, own_heads = n_heads / head_groups, ahead = 16;
    auto* factors = static_cast<MergeFactors(*)[at_once]>(room);
    __shared__ SoftmaxSum totals[n_heads];
    const uint32_t stride = a.v.dim + 2;
    const auto spans_of = [&](uint32_t h) {
        return a.partial + (static_cast<uint64_t>(token) * a.n_heads + first_head + h) * a.n_spans * stride;
    };
    const uint32_t of_pair = 2 * (threadIdx.x % pair_lanes), group = threadIdx.x / pair_lanes * own_heads;
    for (uint32_t d0 = 0; d0 < a.v.dim; d0 += 2 * pair_lanes) {
        const uint32_t d = d0 + of_pair;
        float2 v_sum[own_heads];
        UNROLL for (uint32_t i = 0; i < own_heads; ++i) v_sum[i] = {0, 0};
        SoftmaxSum total = {-infinity, 0};  // of the head that this warp has
        for (uint32_t first = first_span; first <= last_span; first += at_once) {
            const uint32_t n = least(at_once, last_span + 1 - first);
            __syncthreads();
            if (warp() < heads) {
                SoftmaxSum some[at_once / 32];
                UNROLL for (uint32_t i = 0; i < at_once / 32; ++i) {
                    const uint32_t s = 32 * i + lane();
                    const float* of = spans_of(warp()) + (first + least(s, n - 1)) * stride + a.v.dim;
                    some[i] = {of[0], of[1]};
                }
                UNROLL for (uint32_t i = 0; i < at_once / 32; ++i) {
                    if (32 * i >= n) continue;
                    factors[warp()][32 * i + lane()] = merge_at_once(total, some[i], least(32, n - 32 * i));
                }
                if (lane() == 0) totals[warp()] = total;
            }
            __syncthreads();
            UNROLL for (uint32_t i = 0; i < own_heads; ++i) {
                const uint32_t h = group + i;
                if (h >= heads || d >= a.v.dim) continue;
                const float* from = spans_of(h) + first * stride + d;
                for (uint32_t s0 = 0; s0 < n; s0 += ahead) {
                    float2 some[ahead];
                    UNROLL for (uint32_t s = 0; s < ahead; ++s) some[s] =
                        *reinterpret_cast<const float2*>(from + least(s0 + s, n - 1) * stride);
                    UNROLL for (uint32_t s = 0; s < ahead; ++s) {
                        if (s0 + s >= n) continue;
                        const MergeFactors f = factors[h][s0 + s];
                        v_sum[i].x = v_sum[i].x * f.keep + some[s].x * f.take;
                        v_sum[i].y = v_sum[i].y * f.keep + some[s].y * f.take;
                    }
                }
            }
        }
        UNROLL for (uint32_t i = 0; i < own_heads; ++i) {
            const uint32_t h = group + i;
            if (h >= heads || d >= a.v.dim) continue;
            const float* sink = a.sinks == nullptr ? nullptr : a.sinks + first_head + h;
            float* out =
                a.out + (static_cast<uint64_t>(token) * a.out_stride + (first_head + h) * a.v.dim + d);
            out[0] = finish(v_sum[i].x, totals[h], sink);
            out[1] = finish(v_sum[i].y, totals[h], sink);
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
    __shared__ const uint8_t *key_rows[attention_span], *value_rows[attention_span];
    let_next_start();
    // Positions and tables are of the step's input: they are there before any kernel of the step begins.
    const uint32_t token = blockIdx.x, span = blockIdx.z;
    const auto high = static_cast<uint32_t>(a.positions[token]);
    auto end_token = static_cast<uint32_t>(a.seq_start[1]);
    const uint32_t low = first_seen(high, a.window), first = span * attention_span;
    const uint32_t first_span = low / attention_span, last_span = high / attention_span;
    if (token >= rows_of(a.rows) || span < first_span || span > last_span) return wait_for_previous();
    const uint32_t n_groups = (a.n_rep + n_heads - 1) / n_heads, kv_head = blockIdx.y / n_groups;
    const uint32_t first_head = kv_head * a.n_rep + blockIdx.y % n_groups * n_heads;
    const uint32_t heads = least(n_heads, (kv_head + 1) * a.n_rep - first_head);
    uint32_t seq = 0, start_token = 0;
    while (token >= end_token) {
        start_token = end_token;
        end_token = static_cast<uint32_t>(a.seq_start[++seq + 1]);
    }
    const int32_t* blocks = a.block_table + static_cast<uint64_t>(seq) * a.max_blocks;

    const uint32_t k_dim = a.k.dim, v_dim = a.v.dim, extra = 16 / sizeof(T);
    auto* keys = reinterpret_cast<T*>(all_shared);
    const uint32_t k_pitch = k_dim + extra, v_pitch = v_dim + extra;
    T* values = keys + attention_span * k_pitch;
    auto* query = reinterpret_cast<float*>(values + attention_span * v_pitch);
    // What earlier steps put into the cache need not wait for the kernel before this one. The step's own
    // tokens have the last positions, also where each sees all of them.
    const uint32_t first_new =
        static_cast<uint32_t>(a.positions[end_token - 1]) + 1 - (end_token - start_token);
    // Positions of the span, counted from its first.
    const uint32_t begin = low > first ? low - first : 0, end = least(high + 1 - first, attention_span);
    const uint32_t old_end = least(end, first_new > first + begin ? first_new - first : begin);
    if (threadIdx.x >= begin && threadIdx.x < end) {
        const uint64_t slot = slot_of(a, blocks, first + threadIdx.x);
        key_rows[threadIdx.x] = a.k.rows + (slot * a.k.n_heads + kv_head) * a.k.row_bytes;
        value_rows[threadIdx.x] = a.v.rows + (slot * a.v.n_heads + kv_head) * a.v.row_bytes;
    }
    __syncthreads();
    stage<Block>(keys, k_pitch, k_dim, key_rows, begin, old_end);
    end_copies();
    stage<Block>(values, v_pitch, v_dim, value_rows, begin, old_end);
    end_copies();
    wait_for_previous();
    stage<Block>(keys, k_pitch, k_dim, key_rows, old_end, end);
    stage<Block>(values, v_pitch, v_dim, value_rows, old_end, end);
    const float* q = a.q + static_cast<uint64_t>(token) * a.q_stride + first_head * k_dim;
    for (uint32_t i = threadIdx.x; i < n_heads * k_dim; i += decode_threads)
        query[i] = i < heads * k_dim ? q[i] : 0.0f;
    // Values may be on their way while keys are looked at.
    if (old_end < end)
        wait_for_copies();
    else
        wait_for_all_but_last();
    __syncthreads();

    // scores; a warp has a round and half of the heads, a lane a position. Heads beyond those that there are
    // come out as anything.
    const uint32_t in_span = threadIdx.x % attention_span;
    const uint32_t round = in_span / 32, first_of_half = threadIdx.x / attention_span * lane_heads;
    const bool takes_part = begin <= 32 * round + 31 && end > 32 * round && first_of_half < heads;
    const bool visible = in_span >= begin && in_span < end;
    float scores[lane_heads];
    UNROLL for (uint32_t h = 0; h < lane_heads; ++h) scores[h] = 0;
    if (takes_part) {
        const T* key = keys + in_span * k_pitch;
        const float* of_half = query + first_of_half * k_dim;
        UNROLL_BY(2) for (uint32_t d = 0; d < k_dim; d += 8) {
            float k[8];
            S::eight(key + d, k);
            UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
                float some[8];
                Staged<BlockF32>::eight(of_half + h * k_dim + d, some);
                UNROLL for (int i = 0; i < 8; ++i) scores[h] = fmaf(some[i], k[i], scores[h]);
            }
        }
    }
    UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
        float score = scores[h] * a.scale;
        if (a.soft_cap > 0) score = soft_capped(score, a.soft_cap);
        scores[h] = visible ? score : -infinity;
        const float top = lanes_max(scores[h]);
        if (lane() == 0) tops[first_of_half + h][round] = top;
    }
    __syncthreads();
    // the largest score of this round and those before
    UNROLL for (uint32_t h = 0; h < lane_heads; ++h) {
        float top = -infinity;
        for (uint32_t r = 0; r <= round; ++r) top = fmaxf(top, tops[first_of_half + h][r]);
        const float weight = takes_part ? expf(scores[h] - top) : 0.0f;
        weights[first_of_half + h][in_span] = weight;
        const float sum = lanes_sum(weight);
        if (lane() == 0) sums[first_of_half + h][round] = sum;
    }
    wait_for_copies();
    __syncthreads();

    // sums of v: a thread has two dimensions of its heads
    constexpr uint32_t own_heads = n_heads / head_groups;
    const uint32_t group = threadIdx.x / pair_lanes * own_heads;
    const bool alone = first_span == last_span;
    for (uint32_t d = 2 * (threadIdx.x % pair_lanes); d < v_dim && group < heads; d += 2 * pair_lanes) {
        float2 v_sum[own_heads];
        float top[own_heads], sum[own_heads];
        UNROLL for (uint32_t h = 0; h < own_heads; ++h) {
            v_sum[h] = {0, 0};
            sum[h] = 0;
            top[h] = -infinity;
        }
        const auto add = [&](const float* weight, float2 value) {
            UNROLL for (uint32_t h = 0; h < own_heads; ++h) {
                v_sum[h].x = fmaf(weight[h], value.x, v_sum[h].x);
                v_sum[h].y = fmaf(weight[h], value.y, v_sum[h].y);
            }
        };
        for (uint32_t r = begin / 32; r <= (end - 1) / 32; ++r) {
            UNROLL for (uint32_t h = 0; h < own_heads; ++h) {
                const float next = fmaxf(top[h], tops[group + h][r]), keep = expf(top[h] - next);
                sum[h] = sum[h] * keep + sums[group + h][r];
                top[h] = next;
                v_sum[h].x *= keep;
                v_sum[h].y *= keep;
            }
            const T* of = values + 32 * r * v_pitch + d;
            if (32 * r >= begin && 32 * r + 32 <= end) {
                UNROLL_BY(2) for (uint32_t p = 0; p < 32; p += 4, of += 4 * v_pitch) {
                    float4 weight[own_heads];
                    UNROLL for (uint32_t h = 0; h < own_heads; ++h) weight[h] =
                        *reinterpret_cast<const float4*>(&weights[group + h][32 * r + p]);
                    float some[4][own_heads];
                    UNROLL for (uint32_t h = 0; h < own_heads; ++h) {
                        some[0][h] = weight[h].x, some[1][h] = weight[h].y;
                        some[2][h] = weight[h].z, some[3][h] = weight[h].w;
                    }
                    UNROLL for (uint32_t i = 0; i < 4; ++i) add(some[i], S::two(of + i * v_pitch));
                }
                continue;
            }
            const uint32_t low_p = 32 * r > begin ? 0 : begin - 32 * r, end_p = least(32, end - 32 * r);
            for (uint32_t p = low_p; p < end_p; ++p) {
                float some[own_heads];
                UNROLL for (uint32_t h = 0; h < own_heads; ++h) some[h] = weights[group + h][32 * r + p];
                add(some, S::two(of + p * v_pitch));
            }
        }
        UNROLL for (uint32_t h = 0; h < own_heads; ++h) {
            if (group + h >= heads) continue;
            const uint32_t head = first_head + group + h;
            if (alone) {
                SoftmaxSum total = {-infinity, 0};
                const MergeFactors f = merge(total, {top[h], sum[h]});
                const float* sink = a.sinks == nullptr ? nullptr : a.sinks + head;
                float* out = a.out + (static_cast<uint64_t>(token) * a.out_stride + head * v_dim + d);
                out[0] = finish(0.0f * f.keep + v_sum[h].x * f.take, total, sink);
                out[1] = finish(0.0f * f.keep + v_sum[h].y * f.take, total, sink);
                continue;
            }
            float* out = a.partial +
                         ((static_cast<uint64_t>(token) * a.n_heads + head) * a.n_spans + span) * (v_dim + 2);
            *reinterpret_cast<float2*>(out + d) = v_sum[h];
            if (d == 0) *reinterpret_cast<float2*>(out + v_dim) = {top[h], sum[h]};
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
    merge_spans<n_heads>(a, all_shared, token, first_head, heads, first_span, last_span);
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
