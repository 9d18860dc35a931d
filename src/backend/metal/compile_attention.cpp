// What comes before attention, and attention: whole, or with positions split over threadgroups.
#include <fmt/format.h>

#include <algorithm>

#include "backend/metal/compile.h"
#include "backend/metal/kernel_args.h"
#include "backend/metal/kv.h"

namespace smelt::metal {

using namespace op;

namespace {

using gpu::Geometry;

// Threadgroups from which on a device is busy without splitting: a few for each core of the largest.
constexpr int64_t enough_groups = 256;
// Sums of split positions take no more memory than this; where they would, positions are not split.
constexpr size_t most_partial_bytes = size_t{64} << 20;

gpu::KvArgs args_of(const KvRows& rows) {
    CHECK(std::ranges::find(kv_formats, rows.format) != std::end(kv_formats) &&
              rows.dim % format_info(rows.format).block_len == 0,
          "{} heads of {} values", rows.n_heads, rows.dim);
    return {.n_heads = u32(rows.n_heads),
            .dim = u32(rows.dim),
            .row_bytes = u32(static_cast<int64_t>(rows.row_bytes)),
            .format = static_cast<int32_t>(rows.format)};
}

// 32-wide chunks of v, by which attention's kernels are named: the least that is enough.
int64_t chunks_for(int64_t v_dim) {
    for (const int64_t chunks : {4, 8, 16, 32}) {
        if (v_dim <= 32 * chunks) return chunks;
    }
    CHECK(false, "heads of {} values", v_dim);
}

class AttentionCommand : public Command {
 public:
    AttentionCommand(Gpu& gpu, const Attention& op, Binding partial, size_t partial_bytes)
        : q_(op.q), partial_bytes_(partial_bytes) {
        const MetalKv& kv = *static_cast<const MetalKv*>(op.kv);
        const PlainKv& rows = kv.rows();
        const int64_t n_heads = op.q.shape[1], chunks = chunks_for(rows.v.dim);
        tile_rows_ = tile_rows(rows.v.dim);
        args_ = {.n_seqs = 0,
                 .max_blocks = u32(op.block_table.row_len()),
                 .block_len = u32(rows.k.block_len),
                 .n_heads = u32(n_heads),
                 .n_rep = u32(n_heads / rows.k.n_heads),
                 .q_stride = u32(op.q.row_stride),
                 .out_stride = u32(op.out.row_stride),
                 .window = u32(op.window),
                 .has_sinks = op.sinks != nullptr,
                 .n_spans = 0,
                 .scale = op.scale,
                 .soft_cap = op.soft_cap,
                 .k = args_of(rows.k),
                 .v = args_of(rows.v)};
        const Binding out = bind(op.out), sinks = op.sinks != nullptr ? floats_of(*op.sinks) : out;
        buffers_ = {out,
                    bind(op.q),
                    kv.keys(),
                    kv.values(),
                    bind(op.positions),
                    bind(op.seq_start),
                    bind(op.block_table),
                    sinks,
                    partial_bytes > 0 ? partial : out};
        merge_buffers_ = {out, partial, sinks};
        const CacheFormats formats{rows.k.format, rows.v.format};
        attend_ = &gpu.pipeline(fmt::format("attention_{}", chunks), formats);
        if (partial_bytes > 0) merge_ = &gpu.pipeline("attention_merge", formats);
    }

    void encode(StepEncoder& step) const override {
        const int64_t n_tokens = step.rows(q_), n_seqs = step.counts().n_seqs, n_rep = args_.n_rep;
        // Tiles are of one sequence. How the tokens are spread over the sequences is known on the device
        // alone: this many tiles there can be, and those that there are not find nothing to do.
        const int64_t n_tiles = n_tokens == n_seqs ? n_seqs * divide_up(n_rep, tile_rows_)
                                                   : n_seqs + n_tokens * n_rep / tile_rows_;
        const int64_t n_spans = divide_up(step.counts().max_kv_len, Geometry::attention_span);
        const bool split = n_spans > 1 && n_tiles * args_.k.n_heads < enough_groups &&
                           bytes_of_sums(n_tokens, n_spans, args_.n_heads, args_.v.dim) <= partial_bytes_;
        gpu::AttentionArgs args = args_;
        args.n_seqs = u32(n_seqs);
        args.n_spans = split ? u32(n_spans) : 0;
        step.dispatch(
            *attend_, args, buffers_,
            {size(n_tiles, args.k.n_heads, split ? n_spans : 1), size(Geometry::attention_threads)});
        if (!split) return;
        step.dispatch(*merge_, args, merge_buffers_,
                      {size(args.n_heads, n_tokens), size(2 * Geometry::simd_width)});
    }

    // Query rows of a tile, a row being a head of a token.
    static int64_t tile_rows(int64_t v_dim) {
        return Geometry::attention_sums / chunks_for(v_dim) * Geometry::attention_simdgroups;
    }
    static size_t bytes_of_sums(int64_t n_tokens, int64_t n_spans, int64_t n_heads, int64_t v_dim) {
        return static_cast<size_t>(n_tokens * n_heads * n_spans * (v_dim + 2)) * sizeof(float);
    }

 private:
    Tensor q_;
    size_t partial_bytes_;
    int64_t tile_rows_ = 0;
    gpu::AttentionArgs args_;  // without what depends on the step
    std::array<Binding, 9> buffers_;
    std::array<Binding, 3> merge_buffers_;
    const MTL::ComputePipelineState *attend_ = nullptr, *merge_ = nullptr;
};

}  // namespace

void Compiler::add(const PrepareHeads& op) {
    const MetalKv& kv = *static_cast<const MetalKv*>(op.kv);
    const KvRows &k = kv.rows().k, &v = kv.rows().v;
    const bool v_in_k = kv.rows().v_in_k, rotates = bool(op.table);
    const bool changes_q = op.q && (rotates || op.q_norm != nullptr);
    CHECK(op.k.row_len() == k.n_heads * k.dim && (v_in_k || op.v.row_len() == v.n_heads * v.dim),
          "keys of {}, {} heads of {}", op.k.row_len(), k.n_heads, k.dim);
    const gpu::PrepareArgs args{.n_q_heads = changes_q ? u32(op.q.shape[1]) : 0,
                                .n_k_heads = u32(k.n_heads),
                                .n_v_heads = v_in_k ? 0 : u32(v.n_heads),
                                .q_stride = changes_q ? u32(op.q.row_stride) : 0,
                                .k_stride = u32(op.k.row_stride),
                                .v_stride = v_in_k ? 0 : u32(op.v.row_stride),
                                .table_stride = rotates ? u32(op.table.row_stride) : 0,
                                .n_pairs = rotates ? u32(op.table.shape[1]) : 0,
                                .first = u32(op.first),
                                .interleaved = op.pairing == RopePairing::interleaved,
                                .q_norm = op.q_norm != nullptr,
                                .k_norm = op.k_norm != nullptr,
                                .eps = op.eps,
                                .k = args_of(k),
                                .v = args_of(v)};
    const Binding keys = bind(op.k);
    const Grid grid{size(args.n_q_heads + args.n_k_heads + args.n_v_heads), size(Geometry::simd_width),
                    static_cast<size_t>(std::max(k.dim, v.dim)) * sizeof(float)};
    commands_.push_back(std::make_unique<RowsCommand<gpu::PrepareArgs>>(
        gpu_.pipeline("prepare_heads", {k.format, v.format}), args,
        std::initializer_list<Binding>{
            changes_q ? bind(op.q) : keys, keys, v_in_k ? keys : bind(op.v), rotates ? bind(op.table) : keys,
            bind(op.slots), op.q_norm != nullptr ? floats_of(*op.q_norm) : keys,
            op.k_norm != nullptr ? floats_of(*op.k_norm) : keys, kv.keys(), kv.values()},
        op.k, grid));
}

void Compiler::add(const StoreKv& op) {
    PrepareHeads store;
    store.kv = op.kv;
    store.k = op.k;
    store.v = op.v;
    store.slots = op.slots;
    add(store);
}

void Compiler::add(const Attention& op) {
    const PlainKv& rows = static_cast<const MetalKv*>(op.kv)->rows();
    const int64_t n_heads = op.q.shape[1], n_kv_heads = rows.k.n_heads;
    CHECK(n_heads % n_kv_heads == 0 && op.q.row_len() == n_heads * rows.k.dim &&
              op.out.row_len() == n_heads * rows.v.dim,
          "{} heads to {} of {} and {}", n_heads, n_kv_heads, rows.k.dim, rows.v.dim);
    const int64_t n_spans = divide_up(op.block_table.row_len() * rows.k.block_len, Geometry::attention_span);
    // With more tokens than this there are enough threadgroups without splitting.
    const int64_t most_tokens =
        std::min(op.q.n_rows(), divide_up(enough_groups, n_kv_heads) *
                                    AttentionCommand::tile_rows(rows.v.dim) / (n_heads / n_kv_heads));
    const size_t bytes =
        n_spans > 1
            ? std::min(most_partial_bytes, AttentionCommand::bytes_of_sums(std::max<int64_t>(most_tokens, 1),
                                                                           n_spans, n_heads, rows.v.dim))
            : 0;
    const Binding partial = shared(Shared::scratch, bytes);
    commands_.push_back(std::make_unique<AttentionCommand>(gpu_, op, partial, bytes));
}

}  // namespace smelt::metal
