// What a plan means for the device: tokens, places in the cache, rows whose logits are wanted.
#include <algorithm>

#include "engine/step_loop.h"

namespace smelt {

namespace {

// See Batch. What the draw behind this position needs: advance() has the same cases.
int n_best_of(const Sequence& s, int pos) {
    const Request& r = *s.request;
    const bool bans = !r.stop_ids.empty() && (r.ignore_eos || s.n_generated() < r.min_tokens);
    const bool is_forced = s.thinking && s.thinking->forced(r.thinking) >= 0;
    if (s.beams || s.grammar || bans || is_forced || r.n_logprobs >= 0 || s.scores(pos)) return 0;
    return n_best_of(r.sampling);
}

}  // namespace

void StepLoop::build_batch(const StepPlan& plan) {
    const int block_len = kv_.block_len();
    batch_.ids.clear();
    batch_.positions.clear();
    batch_.slots.clear();
    batch_.window_slots.clear();
    batch_.seq_start.assign(1, 0);
    batch_.logits_rows.clear();
    batch_.hidden_rows.clear();
    batch_.max_blocks = batch_.max_kv_len = batch_.n_best = 0;
    bool all = false;  // logits of some row
    for (const StepPlan::Part& part : plan.parts) {
        const Sequence& s = *part.sequence;
        const int end = s.kv.n_tokens + part.n_tokens;
        for (int pos = s.kv.n_tokens; pos < end; ++pos) {
            batch_.ids.push_back(s.ids[static_cast<size_t>(pos)]);
            batch_.positions.push_back(pos);
            const auto i = static_cast<size_t>(pos / block_len);
            batch_.slots.push_back(s.kv.blocks[i] * block_len + pos % block_len);
            if (kv_.has_windows()) {
                batch_.window_slots.push_back(kv_.part_of(s.kv, i) * block_len + pos % block_len);
            }
            if (s.wants_logits(pos)) {
                batch_.logits_rows.push_back(batch_.n_tokens() - 1);
                const int n_best = n_best_of(s, pos);
                all = all || n_best == 0;
                batch_.n_best = std::max(batch_.n_best, n_best);
            }
            if (s.pools(pos)) batch_.hidden_rows.push_back(batch_.n_tokens() - 1);
        }
        batch_.seq_start.push_back(batch_.n_tokens());
        batch_.max_blocks = std::max(batch_.max_blocks, static_cast<int>(s.kv.blocks.size()));
        batch_.max_kv_len = std::max(batch_.max_kv_len, end);
    }
    if (all) batch_.n_best = 0;
    batch_.block_table.assign(plan.parts.size() * static_cast<size_t>(batch_.max_blocks), 0);
    auto row = batch_.block_table.begin();
    for (const StepPlan::Part& part : plan.parts) {
        std::ranges::copy(part.sequence->kv.blocks, row);
        row += batch_.max_blocks;
    }
    if (!kv_.has_windows()) return;
    batch_.window_table.assign(batch_.block_table.size(), 0);
    row = batch_.window_table.begin();
    for (const StepPlan::Part& part : plan.parts) {
        const KvSequence& kv = part.sequence->kv;
        for (auto i = static_cast<size_t>(kv.first_part); i < kv.blocks.size(); ++i) {
            row[static_cast<ptrdiff_t>(i)] = kv_.part_of(kv, i);
        }
        row += batch_.max_blocks;
    }
}

}  // namespace smelt
