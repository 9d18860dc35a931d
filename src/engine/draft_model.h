// A small model that guesses what a large one will draw, with a KV cache of its own. It is fed what the
// answers have become, then draws some tokens for each, one after the other, with the same random numbers.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/draft_policy.h"
#include "engine/drafting.h"
#include "engine/model_runner.h"
#include "engine/scheduler.h"

namespace smelt {

class DraftModel {
 public:
    // Borrows the runner, whose model must not keep states.
    DraftModel(ModelRunner& runner, const SchedulerOptions& options);

    struct Job {
        Sequence* sequence;
        int n;  // tokens that are wanted
    };
    // How the token behind the sequence's last one is drawn, into the batch's last row.
    using AddDraw = std::function<void(Batch&, Sequence&)>;
    // Sets the drafts of the sequences; those of which it has not seen all yet get none. No step of the
    // backend is under way. Returns how many steps it took. What it throws leaves sequences without drafts.
    int draft(std::span<const Job> jobs, const DraftPolicy& policy, const AddDraw& add_draw);
    // Whether it can go on behind so many tokens.
    bool has_room(int n_tokens) const;
    void release(Sequence& s);
    void check(std::span<const KvSequence* const> sequences) const { kv_.check(sequences); }

 private:
    struct Going {
        Sequence* sequence;
        int n;
        std::unique_ptr<Ahead> ahead;
        double reached = 1;  // the chance that all of its drafts are right
        int row = -1;
    };
    bool settle(Sequence& s);
    bool feed(Going& g, int n, bool draws, const AddDraw& add_draw);
    void finish_row(Sequence& s, const AddDraw& add_draw);
    bool take(Going& g, const StepResult& result, const DraftPolicy& policy);

    ModelRunner& runner_;
    KvCache kv_;
    const int max_tokens_;
    Batch batch_;
    std::vector<BlockCopy> copies_;
    std::vector<int32_t> windows_;
};

}  // namespace smelt
