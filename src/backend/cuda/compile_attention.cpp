// What comes before attention, and attention: whole, or with positions split over blocks.
#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/compile.h"
#include "backend/cuda/kv.h"

namespace smelt::cuda {

using namespace op;

namespace {

// Sums of split positions take no more memory than this; where they would, positions are not split.
constexpr size_t most_partial_bytes = size_t{256} << 20;
// Blocks a multiprocessor from which on the card is busy without splitting.
constexpr int64_t enough_blocks = 4;

// 32-wide chunks of v, by which attention's kernels are named: the least that is enough.
int64_t chunks_for(int64_t v_dim) {
    for (const int64_t chunks : {4, 8, 16, 32}) {
        if (v_dim <= 32 * chunks) return chunks;
    }
    CHECK(false, "heads of {} values", v_dim);
}

}  // namespace

void Compiler::add(const PrepareHeads& op) {
    const CudaKv& kv = *static_cast<const CudaKv*>(op.kv);
    const KvRows &k = kv.rows().k, &v = kv.rows().v;
    const bool v_in_k = kv.rows().v_in_k, rotates = bool(op.table);
    const bool changes_q = op.q && (rotates || op.q_norm != nullptr);
    CHECK(op.k.row_len() == k.n_heads * k.dim && (v_in_k || op.v.row_len() == v.n_heads * v.dim),
          "keys of {}, {} heads of {}", op.k.row_len(), k.n_heads, k.dim);
    const PrepareArgs args{.rows = rows_of(op.k),
                           .q = changes_q ? at(op.q) : nullptr,
                           .k = at(op.k),
                           .v = v_in_k ? nullptr : at(op.v),
                           .table = rotates ? at(op.table) : nullptr,
                           .q_norm = floats_of(op.q_norm),
                           .k_norm = floats_of(op.k_norm),
                           .slots = at<int32_t>(op.slots),
                           .n_q_heads = changes_q ? u32(op.q.shape[1]) : 0,
                           .n_k_heads = u32(k.n_heads),
                           .n_v_heads = v_in_k ? 0 : u32(v.n_heads),
                           .q_stride = changes_q ? u32(op.q.row_stride) : 0,
                           .k_stride = u32(op.k.row_stride),
                           .v_stride = v_in_k ? 0 : u32(op.v.row_stride),
                           .table_stride = rotates ? u32(op.table.row_stride) : 0,
                           .n_pairs = rotates ? u32(op.table.shape[1]) : 0,
                           .first = u32(op.first),
                           .interleaved = op.pairing == RopePairing::interleaved,
                           .eps = op.eps,
                           .k_cache = kv.keys(),
                           .v_cache = kv.values()};
    launch(gpu_->kernel("kv", "prepare_heads"), args,
           {.x = op.k.n_rows(),
            .y = args.n_q_heads + args.n_k_heads + args.n_v_heads,
            .threads = warp_size,
            .shared_bytes = static_cast<size_t>(std::max(k.dim, v.dim)) * sizeof(float)});
}

void Compiler::add(const StoreKv& op) {
    PrepareHeads store;
    store.kv = op.kv;
    store.k = op.k;
    store.v = op.v;
    store.slots = op.slots;
    add(store);
}

namespace {

// Up to so many tokens each reads k and v for itself, at the same bits.
constexpr int64_t most_decode_tokens = 64;
constexpr int64_t decode_overhead = 10
                                    << 10;  // static shared memory, and what the card keeps of each block's

struct DecodeKernel {
    std::string name;
    int64_t n_heads = 0;      // query heads of a block
    size_t shared_bytes = 0;  // 0: there is none for this cache
};
DecodeKernel decode_kernel(const KvArgs& k, const KvArgs& v, int64_t n_rep) {
    const auto format = static_cast<Format>(k.format);
    // v that lies in k has k's rows.
    if (k.format != v.format || k.dim % unit_len != 0 || v.dim % unit_len != 0 || k.rows == v.rows) return {};
    const int64_t n_heads = n_rep <= 4 ? 4 : 8;
    const size_t element = format == Format::F16 || format == Format::BF16 ? sizeof(uint16_t) : sizeof(float);
    // Rows of both, each 16 bytes longer so that lanes meet different banks; and the query's heads.
    const size_t bytes = attention_span * (element * (k.dim + v.dim) + 2 * 16) +
                         static_cast<size_t>(n_heads) * k.dim * sizeof(float);
    return {fmt::format("attention_decode_{}_{}", n_heads, Gpu::identifier(format)), n_heads, bytes};
}

// The kernel for more tokens, of which a block has prompt_rows query rows; empty: there is none for this
// cache.
std::string prompt_kernel(const KvArgs& k, const KvArgs& v) {
    const auto format = static_cast<Format>(k.format);
    const bool halves = format == Format::F16 || format == Format::BF16;
    if (!halves || k.format != v.format || k.dim != v.dim || (k.dim != 64 && k.dim != 128)) return {};
    return fmt::format("attention_prompt_{}_{}", k.dim, Gpu::identifier(format));
}
size_t prompt_shared_bytes(int64_t dim) {
    return static_cast<size_t>((prompt_rows + 2 * attention_round) * (dim + 4) +
                               prompt_rows * (attention_round + 4)) *
           sizeof(float);
}
// Tiles are of one sequence. How the tokens are spread over the sequences is known on the card alone: this
// many tiles there can be.
int64_t most_tiles(int64_t n_tokens, int64_t n_seqs, int64_t n_rep, int64_t tile_rows) {
    return std::min(n_seqs + n_tokens * n_rep / tile_rows, n_tokens * divide_up(n_rep, tile_rows));
}

}  // namespace

void Compiler::add(const Attention& op) {
    const CudaKv& kv = *static_cast<const CudaKv*>(op.kv);
    const PlainKv& rows = kv.rows();
    const int64_t n_heads = op.q.shape[1], n_kv_heads = rows.k.n_heads, v_dim = rows.v.dim;
    CHECK(n_heads % n_kv_heads == 0 && op.q.row_len() == n_heads * rows.k.dim &&
              op.out.row_len() == n_heads * v_dim,
          "{} heads to {} of {} and {}", n_heads, n_kv_heads, rows.k.dim, v_dim);
    const int64_t n_rep = n_heads / n_kv_heads, chunks = chunks_for(v_dim);
    const int64_t tile_rows = attention_sums / chunks * attention_warps;
    const int64_t n_tokens = op.q.n_rows(), n_seqs = op.block_table.n_rows();
    const int64_t n_tiles = most_tiles(n_tokens, n_seqs, n_rep, tile_rows);
    const int64_t n_spans = divide_up(op.block_table.row_len() * rows.k.block_len, attention_span);
    const size_t partial_bytes =
        static_cast<size_t>(n_tokens * n_heads * n_spans * (v_dim + 2)) * sizeof(float);
    const bool split = n_spans > 1 && partial_bytes <= most_partial_bytes &&
                       n_tiles * n_kv_heads < enough_blocks * gpu_->info().multiprocessors;
    AttentionArgs args{.rows = rows_of(op.q),
                       .out = at(op.out),
                       .partial = split ? shared<float>(Shared::scratch, partial_bytes) : nullptr,
                       .q = at(op.q),
                       .sinks = floats_of(op.sinks),
                       .positions = at<int32_t>(op.positions),
                       .seq_start = at<int32_t>(op.seq_start),
                       .block_table = at<int32_t>(op.block_table),
                       .n_seqs = at<int32_t>(record_.inputs().counts) + 1,
                       .max_blocks = u32(op.block_table.row_len()),
                       .block_len = u32(rows.k.block_len),
                       .n_heads = u32(n_heads),
                       .n_rep = u32(n_rep),
                       .q_stride = u32(op.q.row_stride),
                       .out_stride = u32(op.out.row_stride),
                       .window = u32(op.window),
                       .n_spans = split ? u32(n_spans) : 0,
                       .n_tiles = u32(n_tiles),
                       .n_done = nullptr,
                       .scale = op.scale,
                       .soft_cap = op.soft_cap,
                       .k = kv.keys(),
                       .v = kv.values()};
    if (const DecodeKernel decode = decode_kernel(kv.keys(), kv.values(), n_rep);
        n_tokens <= most_decode_tokens && partial_bytes <= most_partial_bytes && decode.shared_bytes > 0 &&
        static_cast<int64_t>(decode.shared_bytes) <= gpu_->info().shared_bytes - decode_overhead) {
        const int64_t n_groups = n_kv_heads * divide_up(n_rep, decode.n_heads);
        args.n_spans = u32(n_spans);
        args.partial = shared<float>(Shared::scratch, partial_bytes);
        args.n_done = counters(n_tokens * n_groups);
        launch(gpu_->kernel("attention_decode", decode.name), args,
               {.x = n_tokens,
                .y = n_groups,
                .z = n_spans,
                .threads = decode_threads,
                .shared_bytes = decode.shared_bytes});
        return;
    }
    if (const std::string prompt = prompt_kernel(kv.keys(), kv.values());
        n_tokens > most_decode_tokens && !prompt.empty() &&
        static_cast<int64_t>(prompt_shared_bytes(v_dim)) < gpu_->info().shared_bytes) {
        args.n_spans = 0;
        args.n_tiles = u32(most_tiles(n_tokens, n_seqs, n_rep, prompt_rows));
        launch(gpu_->kernel("attention_prompt", prompt), args,
               {.x = args.n_tiles,
                .y = n_kv_heads,
                .threads = prompt_threads,
                .shared_bytes = prompt_shared_bytes(v_dim)});
        return;
    }
    launch(gpu_->kernel("attention", fmt::format("attention_{}", chunks)), args,
           {.x = n_tiles, .y = n_kv_heads, .z = split ? n_spans : 1, .threads = attention_threads});
    if (!split) return;
    launch(gpu_->kernel("attention", "attention_merge"), args,
           {.x = n_tokens, .y = n_heads, .threads = attention_threads});
}

}  // namespace smelt::cuda
