// Its steps: the first brings it up to date and draws, each further one takes the token of the one before.
#include "engine/draft_model.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "engine/sequence.h"

namespace smelt {

DraftModel::DraftModel(ModelRunner& runner, const SchedulerOptions& options)
    : runner_(runner),
      kv_(runner.shape().n_blocks, runner.shape().block_len, runner.shape().windows),
      max_tokens_(options.max_batch_tokens) {
    CHECK(!runner.shape().keeps_states);
}

bool DraftModel::has_room(int n_tokens) const {
    const RunnerShape& shape = runner_.shape();
    return n_tokens < std::min(shape.n_ctx, shape.n_blocks * shape.block_len);
}

void DraftModel::release(Sequence& s) {
    kv_.release(s.drafting.model_kv);
    s.drafting.model_fed.clear();
}

// Of what it was fed in advance, that stays which has come. False where nothing came since.
bool DraftModel::settle(Sequence& s) {
    KvSequence& kv = s.drafting.model_kv;
    std::vector<int32_t>& fed = s.drafting.model_fed;
    if (kv.blocks.empty()) {
        kv.salt = s.kv.salt;
        kv_.reuse_prefix(kv, s.ids);
    }
    if (kv.n_done >= static_cast<int>(s.ids.size())) return false;
    const auto known = std::span<const int32_t>(s.ids).subspan(static_cast<size_t>(kv.n_done));
    const auto same = std::ranges::mismatch(fed, known).in1 - fed.begin();
    // One token at least is computed, for its row.
    const auto n = std::min<ptrdiff_t>(same, static_cast<ptrdiff_t>(known.size()) - 1);
    kv_.commit(kv, s.ids, static_cast<int>(n));
    kv_.rewind(kv);
    fed.clear();
    return true;
}

// The next n tokens of the sequence into the batch; false where its cache has no room.
bool DraftModel::feed(Going& g, int n, bool draws, const AddDraw& add_draw) {
    Sequence& s = *g.sequence;
    KvSequence& kv = s.drafting.model_kv;
    if (!kv_.reserve(kv, n, copies_)) return false;
    windows_.clear();
    for (size_t i = 0; kv_.has_windows() && i < kv.blocks.size(); ++i) windows_.push_back(kv_.part_of(kv, i));
    batch_.add_sequence(std::span(s.ids).subspan(static_cast<size_t>(kv.n_tokens), static_cast<size_t>(n)),
                        kv.n_tokens, kv.blocks, kv_.block_len(), windows_);
    kv_.advance(kv, n);
    g.row = -1;
    if (!draws) return true;
    g.row = static_cast<int>(batch_.logits_rows.size());
    batch_.logits_rows.push_back(batch_.n_tokens() - 1);
    batch_.draws.emplace_back();
    finish_row(s, add_draw);
    return true;
}

// As the large model would draw it; what needs the host there is guessed by the largest logit.
void DraftModel::finish_row(Sequence& s, const AddDraw& add_draw) {
    const size_t first_edit = batch_.edits.size();
    add_draw(batch_, s);
    DrawRow& row = batch_.draws.back();
    if (row.draws == 0) row.temperature = 0;
    row.draws = row.logprob = 1;
    // The vocabularies may be padded differently.
    std::erase_if(batch_.edits, [&](const LogitEdit& e) { return e.id >= runner_.shape().vocab_size; });
    row.first_edit = static_cast<int32_t>(first_edit);
    row.n_edits = static_cast<int32_t>(batch_.edits.size() - first_edit);
    batch_.all_logits = false;
    batch_.n_top = 0;
}

// The token that was drawn; false where the sequence's drafts end.
bool DraftModel::take(Going& g, const StepResult& result, const DraftPolicy& policy) {
    Sequence& s = *g.sequence;
    const int32_t id = result.tokens[static_cast<size_t>(g.row)];
    const double sure = std::exp(static_cast<double>(result.logprobs[static_cast<size_t>(g.row)]));
    if (id < 0 || !(sure >= static_cast<double>(policy.options().p_min))) return false;
    const DraftKind kind = sure < 0.3   ? DraftKind::unsure
                           : sure < 0.6 ? DraftKind::likely
                           : sure < 0.9 ? DraftKind::sure
                                        : DraftKind::certain;
    if (!g.ahead->push(id)) return false;
    s.drafting.drafts.push_back({id, kind});
    g.reached *= policy.chance(kind, s.drafting.acceptances);
    return static_cast<int>(s.drafting.drafts.size()) < g.n;
}

int DraftModel::draft(std::span<const Job> jobs, const DraftPolicy& policy, const AddDraw& add_draw) {
    const double least_chance = policy.least_chance(static_cast<int>(jobs.size()));
    std::vector<Going> going;
    for (const Job& job : jobs) {
        job.sequence->drafting.drafts.clear();
        if (settle(*job.sequence))
            going.push_back({job.sequence, job.n, std::make_unique<Ahead>(*job.sequence)});
    }
    int n_steps = 0;
    for (bool first = true; !going.empty(); first = false) {
        batch_.clear();
        copies_.clear();
        batch_.mask_words = (runner_.shape().vocab_size + 63) / 64;
        int budget = max_tokens_;
        std::vector<Going> next;
        for (Going& g : going) {
            Sequence& s = *g.sequence;
            const int n_pending = static_cast<int>(s.ids.size()) - s.drafting.model_kv.n_tokens;
            const int n = std::min(n_pending, budget);
            if (n <= 0 || !feed(g, n, n == n_pending, add_draw)) continue;
            budget -= n;
            if (!first) s.drafting.model_fed.push_back(s.ids.back());
            next.push_back(std::move(g));
        }
        going = std::move(next);
        if (going.empty()) break;
        batch_.n_generated = batch_.n_tokens() == batch_.n_seqs() ? batch_.n_tokens() : 0;
        if (!copies_.empty()) runner_.copy_blocks(copies_);
        runner_.launch(batch_);
        const StepResult result = runner_.collect();
        ++n_steps;
        for (Going& g : going) {
            KvSequence& kv = g.sequence->drafting.model_kv;
            if (first) kv_.commit(kv, g.sequence->ids, kv.n_tokens - kv.n_done);
        }
        std::erase_if(going, [&](Going& g) {
            return g.row < 0 || !take(g, result, policy) || g.reached < least_chance;
        });
    }
    return n_steps;
}

}  // namespace smelt
