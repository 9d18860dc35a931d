// A model that is a hash: it writes token ids into its KV slots and makes logits of the context that it reads
// back through the block table, so that any mistake in paging, sharing or order changes the text.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <span>
#include <stdexcept>
#include <tuple>
#include <vector>

#include "engine/model_runner.h"
#include "sampling/sampler.h"

namespace smelt {

class FakeRunner : public ModelRunner {
 public:
    explicit FakeRunner(const RunnerShape& shape, int max_batch_tokens = 1 << 20)
        : shape_(shape),
          max_batch_tokens_(max_batch_tokens),
          slots_(static_cast<size_t>(shape.n_blocks * shape.block_len), -1),
          window_slots_(static_cast<size_t>(shape.windows.n_parts * shape.block_len), -1),
          sampler_(shape.vocab_size) {}

    const RunnerShape& shape() const override { return shape_; }

    // Computes at once, and keeps the results until they are asked for.
    void launch(const Batch& batch) override {
        ++n_runs;
        n_tokens += batch.n_tokens();
        check(batch);
        if (n_runs == fail_at_run && !fails_late) throw std::runtime_error("device lost");
        ASSERT_LT(n_under_way_, shape_.max_steps);
        n_ahead += n_under_way_ > 0;
        Step& step = steps_[(first_ + n_under_way_++) % 2];
        step.batch = &batch;
        step.ids = batch.ids;
        step.fails = n_runs == fail_at_run;
        for (size_t t = 0; t < batch.ids.size(); ++t) {
            int32_t id = batch.ids[t];
            if (id < 0) {
                ASSERT_LT(static_cast<size_t>(-1 - id), drawn_.size());
                id = drawn_[static_cast<size_t>(-1 - id)];
                ASSERT_GT(id, -100) << "no token was drawn for the row";
            }
            // Other bits for answers, which whatever reads them tells apart.
            const bool as_answer = shape_.two_classes && static_cast<int>(t) < batch.n_generated;
            slots_[static_cast<size_t>(batch.slots[t])] = as_answer ? id + 1000 : id;
            if (has_windows()) window_slots_[static_cast<size_t>(batch.window_slots[t])] = id;
        }
        logits_.clear();
        size_t row = 0;
        for (size_t s = 0; s < static_cast<size_t>(batch.n_seqs()); ++s) {
            while (row < batch.logits_rows.size() && batch.logits_rows[row] < batch.seq_start[s + 1]) {
                append_logits(batch, s, batch.positions[static_cast<size_t>(batch.logits_rows[row++])],
                              logits_);
            }
        }
        ASSERT_EQ(row, batch.logits_rows.size());
        ASSERT_TRUE(batch.draws.empty() || batch.draws.size() == row);
        draw(batch, step);
        drawn_ = step.tokens;
        step.logits.clear();
        if (batch.all_logits) step.logits = logits_;
    }

    // What was asked for and nothing else.
    StepResult collect() override {
        EXPECT_GT(n_under_way_, 0);
        const Step& s = steps_[first_];
        first_ = 1 - first_;
        --n_under_way_;
        EXPECT_EQ(s.ids, s.batch->ids) << "the batch changed under way";
        if (s.fails) throw std::runtime_error("device lost");
        return {.tokens = s.tokens,
                .logprobs = s.logprobs,
                .log_sums = s.log_sums,
                .top_ids = s.top_ids,
                .top_logits = s.top_logits,
                .logits = s.logits,
                .hidden = {}};
    }

    void copy_blocks(std::span<const BlockCopy> copies) override {
        for (const BlockCopy& c : copies) {
            ++n_copies;
            for (int offset = 0; offset < shape_.block_len; ++offset) {
                slots_[slot(c.to, offset)] = slots_[slot(c.from, offset)];
                if (!has_windows()) continue;
                window_slots_[slot(c.part_to, offset)] = window_slots_[slot(c.part_from, offset)];
            }
        }
    }

    std::atomic<int> n_runs = 0, n_tokens = 0, n_copies = 0;
    std::atomic<int> n_ahead = 0;       // launched while another was under way
    std::atomic<int> fail_at_run = -1;  // this launch() throws, or its collect()
    bool fails_late = false;
    int32_t nan_id = -1;  // a context that ends with it gives NaN
    // One context in so many gives other logits than another runner's, as those of a draft model; 0: none.
    uint64_t differs_every = 0;

 private:
    struct Step {
        const Batch* batch = nullptr;
        std::vector<int32_t> ids, tokens, top_ids;
        std::vector<float> logits, logprobs, log_sums, top_logits;
        bool fails = false;
    };

    // What a device draws and selects.
    void draw(const Batch& batch, Step& step) {
        const auto vocab_size = static_cast<size_t>(shape_.vocab_size);
        const size_t n_rows = batch.draws.size(), n_top = static_cast<size_t>(batch.n_top);
        step.tokens.assign(n_rows, -100);
        step.logprobs.assign(n_rows, 0);
        step.log_sums.assign(2 * n_rows, 0);
        step.top_ids.clear();
        step.top_logits.clear();
        for (size_t r = 0; r < n_rows; ++r) {
            const std::span<float> row = std::span(logits_).subspan(r * vocab_size, vocab_size);
            const DrawRow& how = batch.draws[r];
            if (how.draws != 0) {
                const auto words = static_cast<size_t>(batch.mask_words);
                const auto mask = how.masked == 0 ? std::span<const uint64_t>()
                                                  : std::span(batch.masks).subspan(r * words, words);
                step.tokens[r] = sampler_.draw(
                    row, how,
                    std::span(batch.edits)
                        .subspan(static_cast<size_t>(how.first_edit), static_cast<size_t>(how.n_edits)),
                    mask, step.logprobs[r], &step.log_sums[2 * r]);
            }
            std::vector<int32_t> ids(vocab_size);
            std::iota(ids.begin(), ids.end(), 0);
            std::ranges::sort(ids, {}, [&](int32_t id) {
                const float x = row[static_cast<size_t>(id)];
                return std::tuple(!std::isnan(x), std::isnan(x) ? 0 : -x, id);
            });
            for (size_t i = 0; i < n_top; ++i) {
                step.top_ids.push_back(ids[i]);
                step.top_logits.push_back(row[static_cast<size_t>(ids[i])]);
            }
        }
    }

    bool has_windows() const { return shape_.windows.n_parts > 0; }
    size_t slot(int32_t block, int offset) const {
        return static_cast<size_t>(block * shape_.block_len + offset);
    }

    // What every batch must be.
    void check(const Batch& b) const {
        ASSERT_GT(b.n_tokens(), 0);
        ASSERT_LE(b.n_tokens(), max_batch_tokens_);
        ASSERT_EQ(b.positions.size(), b.ids.size());
        ASSERT_EQ(b.slots.size(), b.ids.size());
        ASSERT_EQ(b.window_slots.size(), has_windows() ? b.ids.size() : 0);
        ASSERT_EQ(b.window_blocks.size(), has_windows() ? b.blocks.size() : 0);
        std::set<int32_t> written;
        std::multiset<int32_t> held;
        int longest = 0;
        for (int s = 0; s < b.n_seqs(); ++s) {
            const int first = b.seq_start[static_cast<size_t>(s)],
                      end = b.seq_start[static_cast<size_t>(s) + 1];
            ASSERT_LT(first, end);
            const int last_position = b.positions[static_cast<size_t>(end) - 1];
            ASSERT_LT(last_position, shape_.n_ctx);
            longest = std::max(longest, last_position + 1);
            for (int block = 0; block <= last_position / shape_.block_len; ++block) {
                held.insert(b.blocks_of(s)[static_cast<size_t>(block)]);
            }
            for (int t = first; t < end; ++t) {
                const auto i = static_cast<size_t>(t);
                const int position = b.positions[i];
                ASSERT_EQ(position, last_position - (end - 1 - t));
                const int32_t block = b.blocks_of(s)[static_cast<size_t>(position / shape_.block_len)];
                ASSERT_EQ(b.slots[i], static_cast<int32_t>(slot(block, position % shape_.block_len)));
                written.insert(block);
            }
        }
        ASSERT_EQ(b.max_kv_len, longest);
        for (const int32_t block : written) ASSERT_EQ(held.count(block), 1u) << "written while shared";
    }

    void append_logits(const Batch& b, size_t s, int last, std::vector<float>& logits) const {
        uint64_t context = 0;
        int32_t id = -1;
        for (int pos = 0; pos <= last; ++pos) {
            const int32_t block =
                b.blocks_of(static_cast<int>(s))[static_cast<size_t>(pos / shape_.block_len)];
            id = slots_[slot(block, pos % shape_.block_len)];
            context = random_bits(context, static_cast<uint64_t>(id), static_cast<uint64_t>(pos));
        }
        // A windowed layer sees the same tokens, but reads them from its own blocks.
        for (int pos = std::max(0, last + 1 - shape_.windows.window); has_windows() && pos <= last; ++pos) {
            const int32_t part =
                b.window_blocks_of(static_cast<int>(s))[static_cast<size_t>(pos / shape_.block_len)];
            const int32_t seen = window_slots_[slot(part, pos % shape_.block_len)];
            context = random_bits(context, static_cast<uint64_t>(seen), static_cast<uint64_t>(pos));
        }
        if (differs_every > 0 && context % differs_every == 0) ++context;
        for (int v = 0; v < shape_.vocab_size; ++v) {
            const uint64_t bits = random_bits(context, 1, static_cast<uint64_t>(v));
            logits.push_back(static_cast<float>(bits >> 40) * 0x1p-21f - 4);  // -4 to 4
        }
        if (id == nan_id) logits.back() = std::numeric_limits<float>::quiet_NaN();
    }

    RunnerShape shape_;
    int max_batch_tokens_;
    std::vector<int32_t> slots_, window_slots_;
    Sampler sampler_;
    std::vector<float> logits_;
    Step steps_[2];
    int first_ = 0, n_under_way_ = 0;
    std::vector<int32_t> drawn_;  // by the launch before
};

}  // namespace smelt
