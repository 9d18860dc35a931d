// Decides which sequences run in the next step, and with how many tokens. Knows token counts and blocks;
// knows nothing about tensors, logits or threads.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "engine/kv_cache.h"
#include "engine/sequence.h"

namespace smelt {

struct SchedulerOptions {
    int max_seqs = 32;           // that run at once; each may decode in every step
    int max_batch_tokens = 512;  // of a step; more than max_seqs, so that prefill always goes on
    // Of one sequence in a step: half the budget, so that a long prompt leaves room for the next one's first
    // chunk.
    int prefill_chunk = 256;
    // One level of priority is worth as much as having come this many tokens of work earlier. A request of
    // low priority therefore waits for at most that much work of higher ones that come later, and never
    // starves.
    int priority_tokens = 16384;
    int max_scored =
        128;  // tokens of prompts whose log-probabilities are wanted, in a step: a row of logits each
    // Seconds of a step for which tokens grammars allow; answers whose turn comes later wait for the next.
    double max_grammar = 0.01;
};

struct StepPlan {
    struct Part {
        Sequence* sequence;
        int n_tokens;
    };
    std::vector<Part> parts;
    std::vector<BlockCopy> copies;  // to be made first, in order
};

// The sequences of a client, those of batches apart: what is shared fairly, as far as they want it.
struct Flow {
    int64_t n_served = 0;  // tokens computed for it, beyond those of the others
    int64_t first_rank = 0;
    int n_sequences = 0, priority = 0;  // of the first in rank
    int weight = 1;                     // what a token counts
    bool is_active = false;             // something of it runs or waits
};

class Scheduler {
 public:
    // Borrows the cache. Throws Error when the options contradict each other.
    Scheduler(const SchedulerOptions& options, KvCache& kv);

    void add(Sequence* s);       // to the queue
    void add_fork(Sequence* s);  // of a running sequence; runs at once
    void remove(Sequence* s);    // and frees its blocks
    // Neither runs nor holds a seat; keeps its blocks until others need them. Nothing happens when it is so
    // already.
    void pause(Sequence* s);
    void resume(Sequence* s);  // to the queue, at the place of its rank

    // Decodes first, then chunks of prompts that run and whose turn it is, then new ones as long as their
    // blocks are free; all in the order of turn and rank: the flow that was served least comes first. When
    // blocks run out, the last in order loses its own and goes back to the queue; so does one of the flow
    // that holds most seats or blocks, where another has less and waits for them. Every sequence added must
    // fit into the cache alone. Valid until the next call.
    const StepPlan& plan();
    // The sequence gets room for n more tokens in the step that was planned, without taking it from others:
    // how many it got.
    int lengthen(Sequence* s, int n);
    // It is not in the step that was planned after all.
    void put_off(Sequence* s);

    const SchedulerOptions& options() const { return options_; }
    const std::vector<Sequence*>& running() const { return running_; }
    const std::vector<Sequence*>& waiting() const { return waiting_; }
    const std::vector<Sequence*>& paused() const { return paused_; }
    int64_t n_preemptions() const { return n_preemptions_; }
    int64_t n_cached_prompt() const { return n_cached_prompt_; }  // tokens of prompts found in the cache

 private:
    void take_turns();
    int chunk(const Sequence& s) const;
    bool schedule(Sequence& s, int n);
    void schedule_running(bool decodes);
    void answers_first();
    void admit(bool ahead);
    bool make_room(Sequence& s);
    bool has_seat(const Sequence& s) const;
    bool take_blocks(Sequence& s);
    int n_missing_blocks(const Sequence& s) const;
    enum class Scarce { seats, blocks };
    Sequence* who_gives_way(const Sequence& s, Scarce what) const;
    void preempt(Sequence* s);
    bool reclaim_idle(const Sequence* keep);

    SchedulerOptions options_;
    KvCache& kv_;
    std::map<std::pair<uint64_t, bool>, Flow> flows_;    // by client and batch
    std::vector<Sequence*> running_, waiting_, paused_;  // in order
    StepPlan plan_;
    int budget_ = 0;    // tokens left in the step that is being planned
    int n_scored_ = 0;  // of its tokens, those that are scored
    int64_t n_plans_ = 0;
    int64_t n_tokens_ = 0;  // scheduled so far: the clock of rank
    int64_t n_preemptions_ = 0;
    int64_t n_cached_prompt_ = 0;
};

}  // namespace smelt
