// One sequence through a model without scheduling: what goldens, `logits` and `bench` use.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/device_runner.h"
#include "engine/picture.h"

namespace smelt {

// A sequence with a KV cache of its own, fed from front to back.
class SequenceRunner {
 public:
    enum class Logits { none, last, all };

    // Room for n_ctx tokens. Borrows model and backend. Throws Error when there is too little memory.
    SequenceRunner(const Model& model, Backend& backend, int n_ctx, const KvFormats& kv,
                   Fuse fuse = Fuse::as_device_has);

    // Runs the next tokens in one step and returns the logits asked for, (rows, vocab_size), valid until the
    // next call. Ids must be in the vocabulary, and the tokens fit into n_ctx.
    std::span<const float> feed(std::span<const int32_t> ids, Logits wanted);
    // The same, but the device draws: the token of the largest logit after the last of these.
    int32_t next(std::span<const int32_t> ids);
    // The same n times, each token fed after the one before it, beginning with `id`. As in an engine, a step
    // is launched before the one before it has been read, where the device may have two under way.
    std::vector<int32_t> continue_with(int32_t id, int n);

    // The prompt has pictures, whose places are their tokens; before the first token is fed. Throws Error
    // where the model has no tower.
    void set_pictures(std::vector<Picture> pictures);

    int position() const { return position_; }  // tokens fed
    // The next token goes to this position; what was fed there and behind is forgotten. Of recurrent layers
    // the state is forgotten at position 0 alone.
    void rewind(int position);

    const DeviceRunner& device() const { return runner_; }

 private:
    StepResult run(std::span<const int32_t> ids, Logits wanted, const DrawRow* draw);
    void launch(std::span<const int32_t> ids, Logits wanted, const DrawRow* draw);

    const Model& model_;
    DeviceRunner runner_;
    std::vector<Picture> pictures_;
    std::vector<std::shared_ptr<const Features>> features_;  // of each
    RopePositions rope_positions_;
    std::vector<int32_t> blocks_;  // all of the cache, in order
    std::vector<int32_t> states_;  // where recurrent layers keep their state, by block
    Batch batch_;
    int position_ = 0;
};

// Logits of all positions, (ids.size(), vocab_size). `chunk` tokens are fed at a time; 0: all at once. Throws
// Error naming the id that is not in the vocabulary, or the length when there are none or too many.
std::vector<float> forward_logits(const Model& model, Backend& backend, std::span<const int32_t> ids,
                                  int chunk = 0, const KvFormats& kv = {Format::F32, Format::F32},
                                  std::vector<Picture> pictures = {});

}  // namespace smelt
