// Allocates the KV cache through the backend and runs steps of the model over it.
#include "engine/device_runner.h"

#include <algorithm>
#include <limits>

namespace smelt {

namespace {

size_t layer_tensor_bytes(const ModelConfig& config, int block_len, DType kv_type) {
    return static_cast<size_t>(block_len * config.n_kv_heads * config.head_dim) * dtype_bytes(kv_type);
}

RunnerShape shape_of(const ModelConfig& config, const DeviceRunnerOptions& o) {
    constexpr int64_t max_int = std::numeric_limits<int32_t>::max();
    if (o.n_ctx < 0) throw Error("context: expected 1 token or more (0: as trained), found {}", o.n_ctx);
    if (o.block_len < 1) throw Error("KV block length: expected 1 token or more, found {}", o.block_len);
    if (o.n_blocks < 0) throw Error("KV blocks: expected 1 or more, found {}", o.n_blocks);
    if (o.kv_type != DType::F16 && o.kv_type != DType::F32) throw Error("KV type: expected f16 or f32");
    const int64_t n_ctx = o.n_ctx > 0 ? o.n_ctx : config.n_ctx_train;
    if (config.n_positions > 0 && n_ctx > config.n_positions) {
        throw Error("context: {} has {} learned positions, expected at most as many tokens, found {}",
                    config.architecture, config.n_positions, n_ctx);
    }
    const int64_t n_blocks = o.n_blocks > 0 ? o.n_blocks : (n_ctx + o.block_len - 1) / o.block_len;
    // Slots are int32 on the device.
    if (n_ctx > max_int || n_blocks * o.block_len > max_int) {
        throw Error("KV cache: expected at most {} tokens, found {} blocks of {}", max_int, n_blocks,
                    o.block_len);
    }
    RunnerShape shape{.n_blocks = static_cast<int>(n_blocks),
                      .block_len = o.block_len,
                      .vocab_size = static_cast<int>(config.vocab_size),
                      .n_ctx = static_cast<int>(n_ctx)};
    if (config.window > 0 && o.n_window_parts < n_blocks) shape.windows = {config.window, o.n_window_parts};
    return shape;
}

}  // namespace

KvBlockBytes kv_block_bytes(const ModelConfig& config, int block_len, DType kv_type) {
    KvBlockBytes bytes;
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        (config.window_of(layer) > 0 ? bytes.windowed : bytes.full) +=
            2 * layer_tensor_bytes(config, block_len, kv_type);
    }
    return bytes;
}

DeviceRunner::DeviceRunner(const Model& model, Backend& backend, const DeviceRunnerOptions& options)
    : model_(model), backend_(backend), shape_(shape_of(model.config(), options)), arena_(backend) {
    const ModelConfig& config = model.config();
    const auto n_blocks_of = [&](int64_t layer) {
        const bool apart = config.window_of(layer) > 0 && shape_.windows.n_parts > 0;
        return apart ? shape_.windows.n_parts : shape_.n_blocks;
    };
    const size_t block_bytes = layer_tensor_bytes(config, shape_.block_len, options.kv_type);
    uint64_t needed = 0;
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        needed += 2 * static_cast<uint64_t>(n_blocks_of(layer)) * block_bytes;
    }
    // The system would promise the memory and end the process once it is used.
    if (const uint64_t free = backend.available_memory(); needed > free) {
        throw Error(
            "KV cache of {} tokens: {:.2f} GB are needed, {:.2f} GB of memory are free; a smaller context "
            "fits",
            int64_t{shape_.n_blocks} * shape_.block_len, static_cast<double>(needed) / 1e9,
            static_cast<double>(free) / 1e9);
    }
    const auto allocate = [&](int n_blocks) {
        const size_t bytes = static_cast<size_t>(n_blocks) * block_bytes;
        Tensor t;  // (n_blocks, block_len, n_kv_heads, head_dim)
        t.storage = storage_.emplace_back(backend.allocate(bytes)).get();
        t.dtype = options.kv_type;
        t.rank = 4;
        t.shape = {n_blocks, shape_.block_len, config.n_kv_heads, config.head_dim};
        t.row_stride = t.row_len();
        kv_bytes_ += bytes;
        return t;
    };
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        KvLayer kv;
        kv.k = allocate(n_blocks_of(layer));
        kv.v = allocate(n_blocks_of(layer));
        kv_.push_back(kv);
    }
}

void DeviceRunner::run(const Batch& batch, std::vector<float>& logits) {
    Step step(backend_, arena_, batch, kv_);
    model_.forward(step);
    step.run(logits);
}

void DeviceRunner::copy_blocks(std::span<const BlockCopy> copies) {
    backend_.begin();
    // One op a pair, because ops run in order and the pairs of one op need not.
    for (const BlockCopy& c : copies) {
        for (size_t layer = 0; layer < kv_.size(); ++layer) {
            const bool apart =
                shape_.windows.n_parts > 0 && model_.config().window_of(static_cast<int64_t>(layer)) > 0;
            const int32_t from = apart ? c.part_from : c.from, to = apart ? c.part_to : c.to;
            backend_.copy_kv_blocks(kv_[layer], {&from, 1}, {&to, 1});
        }
    }
    backend_.submit_and_wait();
}

}  // namespace smelt
