// One sequence over a DeviceRunner of its own; its blocks are in order, so a token's slot is its position.
#include "engine/forward.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace smelt {

SequenceRunner::SequenceRunner(const Model& model, Backend& backend, int n_ctx, const KvFormats& kv,
                               Fuse fuse)
    : model_(model),
      runner_(model, backend,
              {.n_ctx = n_ctx, .kv = kv, .n_window_parts = model.config().recurrent ? 1 : 0, .fuse = fuse}),
      blocks_(static_cast<size_t>(runner_.shape().n_blocks)) {
    std::iota(blocks_.begin(), blocks_.end(), 0);
}

void SequenceRunner::launch(std::span<const int32_t> ids, Logits wanted, const DrawRow* draw) {
    const int n = static_cast<int>(ids.size());
    CHECK(n > 0 && n <= runner_.shape().n_ctx - position_, "{} tokens at {} of {}", n, position_,
          runner_.shape().n_ctx);
    batch_.clear();
    const int block_len = runner_.shape().block_len;
    const auto n_blocks = static_cast<size_t>((position_ + n + block_len - 1) / block_len);
    // One state, the last: every block's.
    states_.assign(runner_.shape().windows.n_parts > 0 ? n_blocks : 0, 0);
    batch_.add_sequence(ids, position_, std::span(blocks_).first(n_blocks), block_len, states_);
    for (size_t i = 0; i < pictures_.size(); ++i) {
        const Picture& p = pictures_[i];
        for (int t = std::max(p.first, position_); t < std::min(p.end(), position_ + n); ++t)
            batch_.set_features(t - position_, features_[i]->row(t - p.first));
    }
    for (int t = 0; !pictures_.empty() && t < n; ++t)
        batch_.set_rope_position(t, rope_positions_.at(position_ + t));
    batch_.logits_rows.resize(wanted == Logits::none ? 0 : wanted == Logits::last ? 1 : ids.size());
    std::iota(batch_.logits_rows.begin(), batch_.logits_rows.end(),
              n - static_cast<int>(batch_.logits_rows.size()));
    if (draw != nullptr) {
        batch_.draws.push_back(*draw);
    } else {
        batch_.all_logits = wanted != Logits::none;
    }
    position_ += n;
    runner_.launch(batch_);
}

StepResult SequenceRunner::run(std::span<const int32_t> ids, Logits wanted, const DrawRow* draw) {
    launch(ids, wanted, draw);
    return runner_.collect();
}

void SequenceRunner::set_pictures(std::vector<Picture> pictures) {
    CHECK(position_ == 0);
    if (model_.vision() == nullptr) throw Error("{} takes no pictures", model_.config().architecture);
    pictures_ = std::move(pictures);
    features_.clear();
    for (const Picture& p : pictures_) features_.push_back(runner_.features(*p.patches));
    rope_positions_ = RopePositions(pictures_);
}

std::span<const float> SequenceRunner::feed(std::span<const int32_t> ids, Logits wanted) {
    return run(ids, wanted, nullptr).logits;
}

int32_t SequenceRunner::next(std::span<const int32_t> ids) {
    const DrawRow greedy{.temperature = 0, .draws = 1};
    return run(ids, Logits::last, &greedy).tokens[0];
}

std::vector<int32_t> SequenceRunner::continue_with(int32_t id, int n) {
    const DrawRow greedy{.temperature = 0, .draws = 1};
    const int most = runner_.shape().max_steps;
    const int32_t drawn_before = -1;  // row 0 of the launch before
    std::vector<int32_t> tokens;
    for (int i = 0, under_way = 0; std::ssize(tokens) < n;) {
        if (i < n && under_way < most) {
            const int32_t next = i == 0 ? id : under_way > 0 ? drawn_before : tokens.back();
            launch({&next, 1}, Logits::last, &greedy);
            ++i, ++under_way;
            continue;
        }
        tokens.push_back(runner_.collect().tokens[0]);
        --under_way;
    }
    return tokens;
}

void SequenceRunner::rewind(int position) {
    CHECK(position >= 0 && position <= position_);
    position_ = position;
}

std::vector<float> forward_logits(const Model& model, Backend& backend, std::span<const int32_t> ids,
                                  int chunk, const KvFormats& kv, std::vector<Picture> pictures) {
    if (ids.empty() || ids.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
        throw Error("ids: expected 1 or more, found {}", ids.size());
    }
    if (chunk < 0) throw Error("chunk: expected 1 token or more (0: all at once), found {}", chunk);
    for (size_t i = 0; i < ids.size(); ++i) {
        if (ids[i] < 0 || ids[i] >= model.config().vocab_size) {
            throw Error("ids[{}]: expected 0 to {}, found {}", i, model.config().vocab_size - 1, ids[i]);
        }
    }
    SequenceRunner sequence(model, backend, static_cast<int>(ids.size()), kv);
    if (!pictures.empty()) sequence.set_pictures(std::move(pictures));
    std::vector<float> all;
    all.reserve(ids.size() * static_cast<size_t>(model.config().vocab_size));
    const size_t step = chunk == 0 ? ids.size() : static_cast<size_t>(chunk);
    for (size_t first = 0; first < ids.size(); first += step) {
        const auto logits = sequence.feed(ids.subspan(first, std::min(step, ids.size() - first)),
                                          SequenceRunner::Logits::all);
        all.insert(all.end(), logits.begin(), logits.end());
    }
    return all;
}

}  // namespace smelt
