// Attention over the paged cache with an online softmax, for any format of the cache: flash-style for
// prompts, with positions split over blocks for decode, from the same text and so to the same bits. The order
// of operations is said at AttentionArgs.
//
// Bytes: k and v of a position are read once for all query heads that share them, up to a tile's rows at a
// time.
#include "backend/cuda/kernels/attention_tile.cuh"

namespace smelt::cuda {

// --- One block: a tile of query rows that share a head of k and v ---

INLINE void load_cache(int32_t format, const WeightRow& row, uint32_t u, float* values) {
    switch (static_cast<Format>(format)) {
        case Format::F32:
            WeightLoad<BlockF32>::unit(row, u, values);
            break;
        case Format::F16:
            WeightLoad<BlockF16>::unit(row, u, values);
            break;
        case Format::BF16:
            WeightLoad<BlockBF16>::unit(row, u, values);
            break;
        case Format::Q8_0:
            WeightLoad<BlockQ8_0>::unit(row, u, values);
            break;
        case Format::Q4_0:
            WeightLoad<BlockQ4_0>::unit(row, u, values);
            break;
        default:
            WeightLoad<BlockMXFP8_E4M3>::unit(row, u, values);
    }
}

// Values [first_dim, first_dim + 128) of the positions of a round, as floats; zeros where there is none.
INLINE void load_tile(float* shared, const AttentionArgs& a, const KvArgs& kv, const AttentionTile& tile,
                      uint32_t head, uint32_t first_position, uint32_t first_dim) {
    const uint32_t n_units = least(attention_dims / 16, (kv.dim - first_dim + 15) / 16);
    for (uint32_t i = threadIdx.x; i < attention_round * n_units; i += attention_threads) {
        const uint32_t in_round = i / n_units, u = i % n_units, position = first_position + in_round;
        float values[16];
        if (position >= tile.low && position <= tile.high) {
            const uint64_t slot = slot_of(a, tile.blocks, position);
            const WeightRow row = {kv.rows + (slot * kv.n_heads + head) * kv.row_bytes, nullptr, kv.dim,
                                   kv.dim % 16 == 0 && kv.row_bytes % 16 == 0};
            load_cache(kv.format, row, first_dim / 16 + u, values);
        } else {
            UNROLL for (int j = 0; j < 16; ++j) values[j] = 0;
        }
        UNROLL for (uint32_t j = 0; j < 16; ++j) shared[in_round * attention_pitch + 16 * u + j] = values[j];
    }
}

// Blocks: (tiles, heads of k and v, spans). A warp has max_rows rows of the tile, a lane every 32nd value of
// each row's sum over v.
template <int max_rows, int max_chunks>
INLINE void attention(const AttentionArgs& a) {
    __shared__ __align__(16) float shared[attention_round * attention_pitch];
    __shared__ float weights[max_rows * attention_warps * 32];
    __shared__ __align__(16) float queries[max_rows * attention_warps * attention_dims];
    AttentionTile tile;
    if (!find_tile(a, max_rows * attention_warps, blockIdx.x, tile)) return;
    const uint32_t kv_head = blockIdx.y;
    uint32_t first_span = tile.low / attention_span, last_span = tile.high / attention_span;
    if (a.n_spans > 0) {
        if (blockIdx.z < first_span || blockIdx.z > last_span) return;
        first_span = last_span = blockIdx.z;
    }

    // what each row sees
    uint32_t row_token[max_rows], row_head[max_rows], low[max_rows], high[max_rows];
    const float* row_q[max_rows];
    uint32_t my_rows = 0;
    UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
        const uint32_t row = tile.first_row + r * attention_warps + warp();
        if (row <= tile.last_row) my_rows = r + 1;
        const uint32_t safe = least(row, tile.last_row);
        row_token[r] = tile.first_token + safe / a.n_rep;
        row_head[r] = kv_head * a.n_rep + safe % a.n_rep;
        row_q[r] = a.q + static_cast<uint64_t>(row_token[r]) * a.q_stride + row_head[r] * a.k.dim;
        high[r] = static_cast<uint32_t>(a.positions[row_token[r]]);
        low[r] = first_seen(high[r], a.window);
    }

    SoftmaxSum total[max_rows];
    float total_v[max_rows][max_chunks];
    UNROLL for (int r = 0; r < max_rows; ++r) {
        total[r] = {-infinity, 0};
        UNROLL for (int c = 0; c < max_chunks; ++c) total_v[r][c] = 0;
    }
    for (uint32_t span = first_span; span <= last_span; ++span) {
        SoftmaxSum sum[max_rows];
        float v_sum[max_rows][max_chunks];
        UNROLL for (int r = 0; r < max_rows; ++r) {
            sum[r] = {-infinity, 0};
            UNROLL for (int c = 0; c < max_chunks; ++c) v_sum[r][c] = 0;
        }
        constexpr uint32_t span_rounds = attention_span / attention_round;
        const uint32_t low_round = tile.low / attention_round, first_of_span = span * span_rounds;
        const uint32_t first_round = low_round > first_of_span ? low_round : first_of_span;
        const uint32_t end_round = least((span + 1) * span_rounds, tile.high / attention_round + 1);
        for (uint32_t round = first_round; round < end_round; ++round) {
            const uint32_t first_position = round * attention_round, position = first_position + lane();
            // scores = q·k * scale; a lane has a position
            float scores[max_rows];
            UNROLL for (int r = 0; r < max_rows; ++r) scores[r] = 0;
            for (uint32_t d0 = 0; d0 < a.k.dim; d0 += attention_dims) {
                __syncthreads();
                load_tile(shared, a, a.k, tile, kv_head, first_position, d0);
                const uint32_t n_dims = least(attention_dims, a.k.dim - d0);
                if (a.k.dim > attention_dims || (span == first_span && round == first_round)) {
                    UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
                        float* query = queries + (r * attention_warps + warp()) * attention_dims;
                        for (uint32_t d = lane(); r < my_rows && d < attention_dims; d += 32)
                            query[d] = d < n_dims ? row_q[r][d0 + d] : 0.0f;
                    }
                }
                __syncthreads();
                const float* key = shared + lane() * attention_pitch;
                // zeros fill up the last four
                for (uint32_t d = 0; d < n_dims; d += 4) {
                    const float4 k = *reinterpret_cast<const float4*>(key + d);
                    UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
                        if (r >= my_rows) continue;
                        const float4 q = *reinterpret_cast<const float4*>(
                            queries + (r * attention_warps + warp()) * attention_dims + d);
                        scores[r] = fmaf(q.w, k.w, fmaf(q.z, k.z, fmaf(q.y, k.y, fmaf(q.x, k.x, scores[r]))));
                    }
                }
            }
            // weights = exp(score - largest so far); what was summed up before shrinks with it
            bool all_visible = true;
            UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
                if (r >= my_rows) continue;
                const bool takes_part = low[r] <= first_position + 31 && high[r] >= first_position;
                all_visible = all_visible && low[r] <= first_position && high[r] >= first_position + 31;
                float weight = 0;
                if (takes_part) {
                    const bool visible = position >= low[r] && position <= high[r];
                    float score = scores[r] * a.scale;
                    if (a.soft_cap > 0) score = soft_capped(score, a.soft_cap);
                    if (!visible) score = -infinity;
                    const float top = fmaxf(sum[r].top, lanes_max(score));
                    const float keep = expf(sum[r].top - top);
                    weight = expf(score - top);
                    sum[r].sum = sum[r].sum * keep + lanes_sum(weight);
                    sum[r].top = top;
                    UNROLL for (int c = 0; c < max_chunks; ++c) v_sum[r][c] *= keep;
                }
                weights[(r * attention_warps + warp()) * 32 + lane()] = weight;
            }
            // sum over positions of weight * v; a lane has every 32nd value
            UNROLL for (uint32_t c0 = 0; c0 < max_chunks; c0 += 4) {
                if (32 * c0 >= a.v.dim) continue;
                __syncthreads();
                load_tile(shared, a, a.v, tile, kv_head, first_position, 32 * c0);
                __syncthreads();
                for (uint32_t p = 0; p < attention_round; ++p) {
                    // values of positions that a row does not see may be anything
                    const uint32_t here = first_position + p;
                    UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
                        if (r >= my_rows) continue;
                        if (!all_visible && (here < low[r] || here > high[r])) continue;
                        const float weight = weights[(r * attention_warps + warp()) * 32 + p];
                        UNROLL for (uint32_t c = 0; c < 4; ++c) {
                            v_sum[r][c0 + c] =
                                fmaf(weight, shared[p * attention_pitch + 32 * c + lane()], v_sum[r][c0 + c]);
                        }
                    }
                }
            }
        }
        if (a.n_spans > 0) {
            UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
                if (r >= my_rows) continue;
                float* to =
                    a.partial +
                    ((static_cast<uint64_t>(row_token[r]) * a.n_heads + row_head[r]) * a.n_spans + span) *
                        (a.v.dim + 2);
                UNROLL for (uint32_t c = 0; c < max_chunks; ++c) {
                    if (32 * c + lane() < a.v.dim) to[32 * c + lane()] = v_sum[r][c];
                }
                if (lane() == 0) {
                    to[a.v.dim] = sum[r].top;
                    to[a.v.dim + 1] = sum[r].sum;
                }
            }
            return;
        }
        UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
            if (r >= my_rows || sum[r].sum == 0) continue;  // saw nothing of this span
            const MergeFactors f = merge(total[r], sum[r]);
            UNROLL for (int c = 0; c < max_chunks; ++c) total_v[r][c] =
                total_v[r][c] * f.keep + v_sum[r][c] * f.take;
        }
    }
    UNROLL for (uint32_t r = 0; r < max_rows; ++r) {
        if (r >= my_rows) continue;
        float* to = a.out + static_cast<uint64_t>(row_token[r]) * a.out_stride + row_head[r] * a.v.dim;
        UNROLL for (uint32_t c = 0; c < max_chunks; ++c) {
            if (32 * c + lane() < a.v.dim) {
                to[32 * c + lane()] =
                    finish(total_v[r][c], total[r], a.sinks == nullptr ? nullptr : a.sinks + row_head[r]);
            }
        }
    }
}
// Named by the 32-wide chunks of v that they have room for.
KERNEL(attention_4, AttentionArgs, 128) {
    attention<8, 4>(a);
}
KERNEL(attention_8, AttentionArgs, 128) {
    attention<4, 8>(a);
}
KERNEL(attention_16, AttentionArgs, 128) {
    attention<2, 16>(a);
}
KERNEL(attention_32, AttentionArgs, 128) {
    attention<1, 32>(a);
}

// Blocks: (tokens, query heads); a thread has every n-th value.
KERNEL(attention_merge, AttentionArgs, 128) {
    const uint32_t token = blockIdx.x, head = blockIdx.y, stride = a.v.dim + 2;
    if (token >= rows_of(a.rows)) return;
    const float* spans = a.partial + (static_cast<uint64_t>(token) * a.n_heads + head) * a.n_spans * stride;
    float* to = a.out + static_cast<uint64_t>(token) * a.out_stride + head * a.v.dim;
    const auto high = static_cast<uint32_t>(a.positions[token]);
    const uint32_t first = first_seen(high, a.window) / attention_span, last = high / attention_span;
    for (uint32_t i = threadIdx.x; i < a.v.dim; i += blockDim.x) {
        SoftmaxSum total = {-infinity, 0};
        float v_sum = 0;
        for (uint32_t s = first; s <= last; ++s) {
            const SoftmaxSum sum = {spans[s * stride + a.v.dim], spans[s * stride + a.v.dim + 1]};
            if (sum.sum == 0) continue;
            const MergeFactors f = merge(total, sum);
            v_sum = v_sum * f.keep + spans[s * stride + i] * f.take;
        }
        to[i] = finish(v_sum, total, a.sinks == nullptr ? nullptr : a.sinks + head);
    }
}

}  // namespace smelt::cuda
