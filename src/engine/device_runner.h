// A model on a backend as the engine sees it: owns the paged KV storage of all layers and the activations.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/kv_formats.h"
#include "engine/model_runner.h"
#include "model/adapter_table.h"
#include "model/model.h"

namespace smelt {

// Whether neighbouring ops become the fused forms that a device has (backend/fusion.h).
enum class Fuse : uint8_t { as_device_has, nothing };

struct DeviceRunnerOptions {
    int n_ctx = 0;     // tokens of one sequence at most; 0: as trained
    int n_blocks = 0;  // of the KV cache; 0: room for one sequence of n_ctx
    int block_len = default_block_len;
    KvFormats kv = {};
    // Blocks that windowed layers have, as window_parts_for() says; 0, or as many as n_blocks: as other
    // layers.
    int n_window_parts = 0;
    Fuse fuse = Fuse::as_device_has;
    int n_adapters = 8;         // LoRA adapters that may be loaded at once
    int64_t adapter_rank = 16;  // the highest; smaller ones take as much
};

// Steps of an engine that are under way at once.
int max_steps_of(const Backend& backend);

// What a memory budget is divided by. Throws Error where the model cannot have a cache in these formats.
KvBlockBytes kv_block_bytes(const ModelConfig& config, int block_len, const KvFormats& kv);

class DeviceRunner : public ModelRunner {
 public:
    // Borrows both. Throws Error when the device has too little memory for the KV cache, or an option makes
    // no sense.
    DeviceRunner(const Model& model, Backend& backend, const DeviceRunnerOptions& options);

    const RunnerShape& shape() const override { return shape_; }
    void launch(const Batch& batch) override;
    StepResult collect() override { return backend_.collect(); }
    bool takes_pictures() const override { return vision_.has_value(); }
    std::shared_ptr<const Features> features(const Patches& patches) override;
    void set_adapter(int number, const Adapter* adapter) override;
    void copy_blocks(std::span<const BlockCopy> copies) override;
    KvBlockBytes block_bytes() const override;
    void read_block(int32_t block, int32_t part, std::span<std::byte> bytes) override;
    void write_block(int32_t block, int32_t part, std::span<const std::byte> bytes) override;

    size_t kv_bytes() const { return kv_bytes_; }
    size_t activation_bytes() const { return activation_bytes_; }
    // The record of a step of this class, as the backend compiles it.
    Record record(const StepShape& shape) const;

 private:
    bool in_pool(size_t layer) const;  // its blocks are the parts of windowed layers
    // Calls f(KV layer, block) for the layers of a block, those with a window last, so that a block without
    // them is a beginning of one with them.
    template <class F>
    void each_layer_of(int32_t block, int32_t part, F f) const;
    Program& program_for(const StepShape& shape);
    static void pack(const Batch& batch, StepInput& input);

    const Model& model_;
    Backend& backend_;
    AdapterTable adapters_;
    std::optional<VisionRunner> vision_;  // of models that take pictures
    RunnerShape shape_;
    size_t kv_bytes_ = 0;
    std::vector<std::unique_ptr<KvStorage>> kv_;  // one a layer
    std::vector<BlockPair> pairs_;                // scratch of copy_blocks()
    std::vector<StepInput> inputs_;               // one for each step that may be under way
    size_t activation_bytes_ = 0;

    struct Compiled {
        std::unique_ptr<Program> program;
        uint64_t last_used = 0;
    };
    struct HashShape {
        size_t operator()(const StepShape& s) const { return s.hash(); }
    };
    std::unordered_map<StepShape, Compiled, HashShape> programs_;
    uint64_t n_launches_ = 0;
    Fuse fuse_;
};

}  // namespace smelt
