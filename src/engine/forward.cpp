// Feeds one sequence through a DeviceRunner of its own, chunk by chunk.
#include "engine/forward.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "engine/device_runner.h"

namespace smelt {

std::vector<float> forward_logits(const Model& model, Backend& backend, std::span<const int32_t> ids,
                                  int chunk, DType kv_type) {
    if (ids.empty() || ids.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
        throw Error("ids: expected 1 or more, found {}", ids.size());
    }
    if (chunk < 0) throw Error("chunk: expected 1 token or more (0: all at once), found {}", chunk);
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || ids[i] >= model.config().vocab_size) {
            throw Error("ids[{}]: expected 0 to {}, found {}", i, model.config().vocab_size - 1, ids[i]);
        }
    }
    const int n = static_cast<int>(ids.size());
    DeviceRunner runner(model, backend, {.n_ctx = n, .kv_type = kv_type});
    std::vector<float> all, logits;
    all.reserve(ids.size() * static_cast<size_t>(model.config().vocab_size));
    Batch batch;
    batch.max_blocks = runner.shape().n_blocks;
    batch.block_table.resize(static_cast<size_t>(batch.max_blocks));
    std::iota(batch.block_table.begin(), batch.block_table.end(), 0);
    for (int first = 0; first < n;) {
        const int len = chunk == 0 ? n : std::min(chunk, n - first);
        batch.ids.assign(ids.begin() + first, ids.begin() + first + len);
        // The blocks are in order, so a token's slot is its position.
        batch.positions.resize(static_cast<size_t>(len));
        std::iota(batch.positions.begin(), batch.positions.end(), first);
        batch.slots = batch.positions;
        batch.logits_rows.resize(static_cast<size_t>(len));
        std::iota(batch.logits_rows.begin(), batch.logits_rows.end(), 0);
        batch.seq_start = {0, len};
        first += len;
        batch.max_kv_len = first;
        runner.run(batch, logits);
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

}  // namespace smelt
