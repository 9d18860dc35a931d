// Allocates the KV cache through the backend and runs steps of the model over it.
#include "engine/device_runner.h"

#include <algorithm>
#include <limits>

namespace smelt {

namespace {

// One layer's cache without memory.
KvLayer make_layer(const ModelConfig& c, int64_t n_blocks, int64_t block_len, const KvFormats& kv) {
    const auto rows = [&](Format f) { return KvRows(f, n_blocks, block_len, c.n_kv_heads, c.head_dim); };
    return {rows(kv.k), c.latent ? rows(kv.k).first(c.latent->kv_rank) : rows(kv.v)};
}

size_t n_bytes(const ModelConfig& c, const KvLayer& layer) {
    return layer.k.n_bytes() + (c.latent ? 0 : layer.v.n_bytes());
}

RunnerShape shape_of(const ModelConfig& config, const DeviceRunnerOptions& o) {
    constexpr int64_t max_int = std::numeric_limits<int32_t>::max();
    if (o.n_ctx < 0) throw Error("context: expected 1 token or more (0: as trained), found {}", o.n_ctx);
    if (o.block_len < 1) throw Error("KV block length: expected 1 token or more, found {}", o.block_len);
    if (o.n_blocks < 0) throw Error("KV blocks: expected 1 or more, found {}", o.n_blocks);
    check_kv_formats(config, o.kv);
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
                      .n_ctx = static_cast<int>(n_ctx),
                      .dim = static_cast<int>(config.dim)};
    if (config.window > 0 && o.n_window_parts < n_blocks) shape.windows = {config.window, o.n_window_parts};
    return shape;
}

}  // namespace

KvBlockBytes kv_block_bytes(const ModelConfig& config, int block_len, const KvFormats& kv) {
    check_kv_formats(config, kv);
    const size_t layer_bytes = n_bytes(config, make_layer(config, 1, block_len, kv));
    KvBlockBytes bytes;
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        (config.window_of(layer) > 0 ? bytes.windowed : bytes.full) += layer_bytes;
    }
    return bytes;
}

DeviceRunner::DeviceRunner(const Model& model, Backend& backend, const DeviceRunnerOptions& options)
    : model_(model), backend_(backend), shape_(shape_of(model.config(), options)), arena_(backend) {
    const ModelConfig& config = model.config();
    for (int64_t layer = 0; layer < config.n_layers; ++layer) {
        const bool apart = config.window_of(layer) > 0 && shape_.windows.n_parts > 0;
        kv_.push_back(make_layer(config, apart ? shape_.windows.n_parts : shape_.n_blocks, shape_.block_len,
                                 options.kv));
        kv_bytes_ += n_bytes(config, kv_.back());
    }
    // The system would promise the memory and end the process once it is used.
    const uint64_t needed = kv_bytes_, free = backend.available_memory();
    if (needed > free) {
        throw Error(
            "KV cache of {} tokens: {:.2f} GB are needed, {:.2f} GB of memory are free; a smaller context "
            "fits",
            int64_t{shape_.n_blocks} * shape_.block_len, static_cast<double>(needed) / 1e9,
            static_cast<double>(free) / 1e9);
    }
    for (KvLayer& layer : kv_) {
        const auto allocate = [&](KvRows& rows) {
            rows.storage = storage_.emplace_back(backend.allocate(rows.n_bytes())).get();
        };
        allocate(layer.k);
        if (config.latent) {
            layer.v.storage = layer.k.storage;
        } else {
            allocate(layer.v);
        }
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
            const bool apart = in_pool(layer);
            const int32_t from = apart ? c.part_from : c.from, to = apart ? c.part_to : c.to;
            backend_.copy_kv_blocks(kv_[layer], {&from, 1}, {&to, 1});
        }
    }
    backend_.submit_and_wait();
}

bool DeviceRunner::in_pool(size_t layer) const {
    return shape_.windows.n_parts > 0 && model_.config().window_of(static_cast<int64_t>(layer)) > 0;
}

KvBlockBytes DeviceRunner::block_bytes() const {
    // Its layers' storage is no plain memory of one device.
    if (backend_.name() == "split") return {};
    KvBlockBytes n;
    for (size_t layer = 0; layer < kv_.size(); ++layer) {
        const KvLayer& l = kv_[layer];
        (in_pool(layer) ? n.windowed : n.full) += l.k.block_bytes() + (l.v_in_k() ? 0 : l.v.block_bytes());
    }
    return n;
}

std::vector<Tensor> DeviceRunner::pieces(int32_t block, int32_t part) const {
    std::vector<Tensor> tensors;
    const auto add = [&](const KvRows& rows, int32_t b) {
        const size_t bytes = rows.block_bytes();
        CHECK(bytes % 4 == 0, "{} bytes", bytes);
        const auto n = static_cast<int64_t>(bytes / 4);
        tensors.push_back({.storage = rows.storage,
                           .offset = static_cast<size_t>(b) * bytes,
                           .dtype = DType::I32,
                           .rank = 2,
                           .shape = {1, n},
                           .row_stride = n});
    };
    // Windowed layers last, so that a block without them is a beginning of one with them.
    for (const bool apart : {false, true}) {
        const int32_t b = apart ? part : block;
        for (size_t layer = 0; layer < kv_.size(); ++layer) {
            if (in_pool(layer) != apart || b == WindowBlocks::none) continue;
            add(kv_[layer].k, b);
            if (!kv_[layer].v_in_k()) add(kv_[layer].v, b);
        }
    }
    return tensors;
}

void DeviceRunner::read_block(int32_t block, int32_t part, std::span<std::byte> bytes) {
    for (const Tensor& t : pieces(block, part)) {
        backend_.read(t, bytes.data());
        bytes = bytes.subspan(t.n_bytes());
    }
}

void DeviceRunner::write_block(int32_t block, int32_t part, std::span<const std::byte> bytes) {
    backend_.begin();
    for (const Tensor& t : pieces(block, part)) {
        backend_.write(t, bytes.data());
        bytes = bytes.subspan(t.n_bytes());
    }
    backend_.submit_and_wait();
}

}  // namespace smelt
