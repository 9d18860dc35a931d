// A model on a backend as the engine sees it: owns the paged KV storage of all layers and the activations.
#pragma once

#include <memory>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/kv_formats.h"
#include "engine/model_runner.h"
#include "model/model.h"

namespace smelt {

struct DeviceRunnerOptions {
    int n_ctx = 0;     // tokens of one sequence at most; 0: as trained
    int n_blocks = 0;  // of the KV cache; 0: room for one sequence of n_ctx
    int block_len = default_block_len;
    KvFormats kv = {};
    // Blocks that windowed layers have, as window_parts_for() says; 0, or as many as n_blocks: as other
    // layers.
    int n_window_parts = 0;
};

// What a memory budget is divided by. Throws Error where the model cannot have a cache in these formats.
KvBlockBytes kv_block_bytes(const ModelConfig& config, int block_len, const KvFormats& kv);

class DeviceRunner : public ModelRunner {
 public:
    // Borrows both. Throws Error when the device has too little memory for the KV cache, or an option makes
    // no sense.
    DeviceRunner(const Model& model, Backend& backend, const DeviceRunnerOptions& options);

    const RunnerShape& shape() const override { return shape_; }
    void run(const Batch& batch, std::vector<float>& logits) override;
    void copy_blocks(std::span<const BlockCopy> copies) override;
    KvBlockBytes block_bytes() const override;
    void read_block(int32_t block, int32_t part, std::span<std::byte> bytes) override;
    void write_block(int32_t block, int32_t part, std::span<const std::byte> bytes) override;

    size_t kv_bytes() const { return kv_bytes_; }
    size_t activation_bytes() const { return arena_.n_bytes(); }

 private:
    bool in_pool(size_t layer) const;  // its blocks are the parts of windowed layers
    // The pieces of a block, layer after layer, as tensors of the storage.
    std::vector<Tensor> pieces(int32_t block, int32_t part) const;

    const Model& model_;
    Backend& backend_;
    RunnerShape shape_;
    size_t kv_bytes_ = 0;
    std::vector<std::unique_ptr<Storage>> storage_;
    std::vector<KvLayer> kv_;  // one a layer
    Arena arena_;
};

}  // namespace smelt
