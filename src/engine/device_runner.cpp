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
    return {.n_blocks = static_cast<int>(n_blocks),
            .block_len = o.block_len,
            .vocab_size = static_cast<int>(config.vocab_size),
            .n_ctx = static_cast<int>(n_ctx)};
}

}  // namespace

size_t kv_block_bytes(const ModelConfig& config, int block_len, DType kv_type) {
    return 2 * static_cast<size_t>(config.n_layers) * layer_tensor_bytes(config, block_len, kv_type);
}

DeviceRunner::DeviceRunner(const Model& model, Backend& backend, const DeviceRunnerOptions& options)
    : model_(model), backend_(backend), shape_(shape_of(model.config(), options)), arena_(backend) {
    const ModelConfig& config = model.config();
    const size_t bytes =
        static_cast<size_t>(shape_.n_blocks) * layer_tensor_bytes(config, shape_.block_len, options.kv_type);
    // The system would promise the memory and end the process once it is used.
    const uint64_t needed = 2 * static_cast<uint64_t>(config.n_layers) * bytes,
                   free = backend.available_memory();
    if (needed > free) {
        throw Error(
            "KV cache of {} tokens: {:.2f} GB are needed, {:.2f} GB of memory are free; a smaller context "
            "fits",
            int64_t{shape_.n_blocks} * shape_.block_len, static_cast<double>(needed) / 1e9,
            static_cast<double>(free) / 1e9);
    }
    const auto allocate = [&] {
        Tensor t;  // (n_blocks, block_len, n_kv_heads, head_dim)
        t.storage = storage_.emplace_back(backend.allocate(bytes)).get();
        t.dtype = options.kv_type;
        t.rank = 4;
        t.shape = {shape_.n_blocks, shape_.block_len, config.n_kv_heads, config.head_dim};
        t.row_stride = t.row_len();
        kv_bytes_ += bytes;
        return t;
    };
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        KvLayer kv;
        kv.k = allocate();
        kv.v = allocate();
        kv_.push_back(kv);
    }
}

void DeviceRunner::run(const Batch& batch, std::vector<float>& logits) {
    Step step(backend_, arena_, batch, kv_);
    model_.forward(step);
    step.run(logits);
}

void DeviceRunner::copy_blocks(std::span<const int32_t> from, std::span<const int32_t> to) {
    CHECK(from.size() == to.size());
    backend_.begin();
    // One op a pair, because ops run in order and the pairs of one op need not.
    for (size_t i = 0; i < from.size(); ++i) {
        for (const KvLayer& layer : kv_) {
            backend_.copy_kv_blocks(layer, from.subspan(i, 1), to.subspan(i, 1));
        }
    }
    backend_.submit_and_wait();
}

}  // namespace smelt
