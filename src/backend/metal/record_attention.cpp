// What comes before attention, and attention: whole, or with positions split over threadgroups.
#include <algorithm>

#include "backend/metal/kernel_args.h"
#include "backend/metal/record.h"

namespace smelt::metal {

namespace {

using gpu::Geometry;

// Threadgroups from which on a device is busy without splitting: a few for each core of the largest.
constexpr int64_t enough_groups = 256;

uint32_t u32(int64_t n) {
    CHECK(n >= 0 && n <= UINT32_MAX, "{}", n);
    return static_cast<uint32_t>(n);
}
NS::UInteger count(int64_t n) {
    return static_cast<NS::UInteger>(n);
}

gpu::KvArgs args_of(const KvRows& rows) {
    CHECK(std::ranges::find(kv_formats, rows.format) != std::end(kv_formats) &&
              rows.dim % format_info(rows.format).block_len == 0,
          "{} heads of {} values", rows.n_heads, rows.dim);
    return {.n_heads = u32(rows.n_heads),
            .dim = u32(rows.dim),
            .row_bytes = u32(static_cast<int64_t>(rows.row_bytes)),
            .format = static_cast<int32_t>(rows.format)};
}
Binding bind(const KvRows& rows) {
    return {buffer_of(rows), 0};
}

// 32-wide chunks of v, by which attention's kernels are named: the least that is enough.
int64_t chunks_for(int64_t v_dim) {
    for (const int64_t chunks : {4, 8, 16, 32}) {
        if (v_dim <= 32 * chunks) return chunks;
    }
    CHECK(false, "heads of {} values", v_dim);
}

}  // namespace

void record_prepare(Recorder& r, const KvLayer& kv, const Tensor& q, const Tensor& k, const Tensor& v,
                    const BatchView& batch, const PrepareParams& p) {
    const bool rotates = p.angles.rank > 0, changes_q = rotates || p.q_norm != nullptr;
    CHECK(k.row_len() == kv.k.n_heads * kv.k.dim && (kv.v_in_k() || v.row_len() == kv.v.n_heads * kv.v.dim),
          "keys of {}, {} heads of {}", k.row_len(), kv.k.n_heads, kv.k.dim);
    const gpu::PrepareArgs args{.n_q_heads = changes_q ? u32(q.shape[1]) : 0,
                                .n_k_heads = u32(kv.k.n_heads),
                                .n_v_heads = kv.v_in_k() ? 0 : u32(kv.v.n_heads),
                                .q_stride = changes_q ? u32(q.row_stride) : 0,
                                .k_stride = u32(k.row_stride),
                                .v_stride = kv.v_in_k() ? 0 : u32(v.row_stride),
                                .table_stride = rotates ? u32(p.angles.row_stride) : 0,
                                .n_pairs = rotates ? u32(p.angles.shape[1]) : 0,
                                .first = u32(p.first),
                                .interleaved = p.pairing == RopePairing::interleaved,
                                .q_norm = p.q_norm != nullptr,
                                .k_norm = p.k_norm != nullptr,
                                .eps = p.eps,
                                .k = args_of(kv.k),
                                .v = args_of(kv.v)};
    const Binding keys = metal::bind(k);
    const size_t head_bytes = static_cast<size_t>(std::max(kv.k.dim, kv.v.dim)) * sizeof(float);
    r.add(r.gpu.pipeline("prepare_heads", {kv.k.format, kv.v.format}), args,
          {changes_q ? metal::bind(q) : keys, keys, kv.v_in_k() ? keys : metal::bind(v),
           rotates ? metal::bind(p.angles) : keys, metal::bind(batch.slots),
           p.q_norm != nullptr ? floats_of(*p.q_norm) : keys,
           p.k_norm != nullptr ? floats_of(*p.k_norm) : keys, bind(kv.k), bind(kv.v)},
          {MTL::Size(args.n_q_heads + args.n_k_heads + args.n_v_heads, count(batch.n_tokens), 1),
           MTL::Size(Geometry::simd_width, 1, 1), head_bytes});
}

void record_attention(Recorder& r, const Tensor& out, const Tensor& q, const KvLayer& kv,
                      const BatchView& batch, const AttentionParams& p) {
    const int64_t n_heads = q.shape[1], n_kv_heads = kv.k.n_heads, n_rep = n_heads / n_kv_heads;
    CHECK(
        n_heads % n_kv_heads == 0 && q.row_len() == n_heads * kv.k.dim && out.row_len() == n_heads * kv.v.dim,
        "{} heads to {} of {} and {}", n_heads, n_kv_heads, kv.k.dim, kv.v.dim);
    const int64_t chunks = chunks_for(kv.v.dim),
                  tile_rows = Geometry::attention_sums / chunks * Geometry::attention_simdgroups;
    // Tiles are of one sequence. How the tokens are spread over the sequences is known on the device alone:
    // so many there can be, and the others find nothing to do.
    const int64_t n_tokens = batch.n_tokens, n_seqs = batch.n_seqs;
    const int64_t n_tiles = n_tokens == n_seqs ? n_seqs * ((n_rep + tile_rows - 1) / tile_rows)
                                               : n_seqs + n_tokens * n_rep / tile_rows;
    const int64_t n_spans = (batch.max_kv_len + Geometry::attention_span - 1) / Geometry::attention_span;
    const bool split = n_spans > 1 && n_tiles * n_kv_heads < enough_groups;

    const gpu::AttentionArgs args{.n_tokens = u32(n_tokens),
                                  .n_seqs = u32(n_seqs),
                                  .max_blocks = u32(batch.max_blocks),
                                  .block_len = u32(kv.block_len()),
                                  .n_heads = u32(n_heads),
                                  .n_rep = u32(n_rep),
                                  .q_stride = u32(q.row_stride),
                                  .out_stride = u32(out.row_stride),
                                  .window = u32(p.window),
                                  .has_sinks = p.sinks != nullptr,
                                  .n_spans = split ? u32(n_spans) : 0,
                                  .scale = p.scale,
                                  .k = args_of(kv.k),
                                  .v = args_of(kv.v)};
    const Binding to = metal::bind(out), sinks = p.sinks != nullptr ? floats_of(*p.sinks) : to;
    const Binding partial =
        split ? r.scratch.take(static_cast<size_t>(n_tokens * n_heads * n_spans * (kv.v.dim + 2)) *
                               sizeof(float))
              : to;
    r.add(r.gpu.pipeline(fmt::format("attention_{}", chunks), {kv.k.format, kv.v.format}), args,
          {to, metal::bind(q), bind(kv.k), bind(kv.v), metal::bind(batch.positions),
           metal::bind(batch.seq_start), metal::bind(batch.block_table), sinks, partial},
          {MTL::Size(count(n_tiles), count(n_kv_heads), count(split ? n_spans : 1)),
           MTL::Size(Geometry::attention_threads, 1, 1)});
    if (!split) return;
    r.add(r.gpu.pipeline("attention_merge", {kv.k.format, kv.v.format}), args, {to, partial, sinks},
          {MTL::Size(count(n_heads), count(n_tokens), 1), MTL::Size(Geometry::simd_width * 2, 1, 1)});
}

}  // namespace smelt::metal
