// What the engine needs from a model on a device: run one ragged batch, copy KV blocks. Tests put a fake
// here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/batch.h"
#include "engine/kv_cache.h"
#include "engine/vision_runner.h"

namespace smelt {

struct Adapter;

struct RunnerShape {
    int n_blocks = 0;   // KV blocks that it has
    int block_len = 0;  // tokens a block holds
    int vocab_size = 0;
    int n_ctx = 0;            // tokens of one sequence at most, prompt and answer together
    WindowPool windows = {};  // of windowed layers
    int dim = 0;              // of a hidden state
    int max_steps = 1;        // that may be under way at once: 1 or 2
    // Layers keep a state in place of K and V: what was computed cannot be taken back but by a copy.
    bool keeps_states = false;
    // Prompts and answers are computed with different bits; see StepCounts::n_generated.
    bool two_classes = false;
    int n_adapters = 0;  // that it has room for: numbers 1 to n
};

// Bytes of one KV block over all layers.
struct KvBlockBytes {
    size_t full = 0, windowed = 0;  // layers that see all, layers with a window
    size_t all() const { return full + windowed; }
};

class ModelRunner {
 public:
    virtual ~ModelRunner() = default;
    virtual const RunnerShape& shape() const = 0;

    // Starts a step; returns at once where the device can. The batch stays as it is until it is collected. At
    // most shape().max_steps are under way; they run in the order of their launch.
    virtual void launch(const Batch& batch) = 0;
    // Waits for the first step that is under way and brings what its batch asked for, valid until the next
    // collect() or, where one step is under way at a time, launch(). Throws what the device throws; the KV
    // slots of the batch are then undefined, all others untouched.
    virtual StepResult collect() = 0;

    // What the model makes of a picture, while no step is under way. Throws Error.
    virtual bool takes_pictures() const { return false; }
    virtual std::shared_ptr<const Features> features(const Patches& /*patches*/) {
        throw Error("this model takes no pictures");
    }

    // The adapter of a number; null: none. While no step is under way. Throws Error where it does not fit;
    // the number then has none.
    virtual void set_adapter(int /*number*/, const Adapter* /*adapter*/) {
        throw Error("this runner takes no adapters");
    }

    // After the steps that were launched. In the order given: a block may be the target of one copy and the
    // source of the next.
    virtual void copy_blocks(std::span<const BlockCopy> copies) = 0;

    // What a block holds, out of the device and back: block_bytes().full bytes and, where the block has a
    // part of windowed layers, as many as windowed; `part` is its number or WindowBlocks::none. Of a runner
    // without such a way, block_bytes() is nothing.
    virtual KvBlockBytes block_bytes() const { return {}; }
    virtual void read_block(int32_t /*block*/, int32_t /*part*/, std::span<std::byte> /*bytes*/) {}
    virtual void write_block(int32_t /*block*/, int32_t /*part*/, std::span<const std::byte> /*bytes*/) {}
};

}  // namespace smelt
