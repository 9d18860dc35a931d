// One step after the other, without a thread: plans, launches the step, tells the sinks what the step before
// brought while the device works, and takes the tokens of this one. Where the device has a queue, the next
// step is launched before this one's tokens are known. Owns the sequences; its caller provides the thread and
// checks requests.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "engine/draft_model.h"
#include "engine/flight.h"
#include "engine/kv_cache.h"
#include "engine/model_runner.h"
#include "engine/prefix_file.h"
#include "engine/scheduler.h"
#include "sampling/sampler.h"

namespace smelt {

struct StepLoopStats {
    int n_queued = 0;     // sequences that have not run yet
    int n_preempted = 0;  // that wait to run again
    int n_running = 0;
    int n_paused = 0;
    int n_blocks = 0, n_used_blocks = 0, n_cached_blocks = 0;  // of the KV cache; the rest is blank
    int64_t n_steps = 0;
    int64_t n_prefilled = 0;      // tokens computed that were given or computed before
    int64_t n_cached_prompt = 0;  // tokens of prompts that were in the cache
    int64_t n_generated = 0;
    int64_t n_preemptions = 0;
    int64_t n_failed_steps = 0;                   // ended by an exception of the device
    int64_t n_constrained = 0;                    // tokens drawn under a grammar
    int64_t n_drafts = 0;                         // answers' steps that had drafts
    int64_t n_drafted = 0, n_draft_accepted = 0;  // tokens that were guessed, and those that were right
};

class StepLoop {
 public:
    // Borrows the runners. `draft` is of a smaller model with the same vocabulary; null: none.
    StepLoop(ModelRunner& runner, const SchedulerOptions& options, const DraftOptions& drafts = {},
             ModelRunner* draft = nullptr);
    ~StepLoop();

    RequestLimits limits() const;

    // A request that check_request() accepts.
    void add(RequestId id, std::shared_ptr<const Request> request, uint64_t seed,
             Sequence::Clock::time_point submitted);
    // One answer, or all where index is negative.
    void cancel(RequestId id, int index = -1);
    void pause(RequestId id);
    void resume(RequestId id);
    // See ModelRunner; waits for the steps under way.
    void set_adapter(int number, const Adapter* adapter);
    void end_all(FinishReason reason, const std::string& error = "", Failure failure = Failure::none);

    // Nothing happens when idle. Exceptions of the runner end the sequences of the step with an error. Events
    // of a step reach the sinks during the next one, or at its end if nothing is left to run.
    void step();
    // Tells the sinks what they have not heard yet.
    void flush();
    bool idle() const { return sequences_.empty(); }
    bool can_step() const {
        return n_under_way_ > 0 || !scheduler_.running().empty() || !scheduler_.waiting().empty();
    }

    // Of the prefix cache, before the first request and after the last one. Damaged files and full disks are
    // logged: nothing but time depends on them.
    void load_prefixes(const PrefixFile& file);
    void save_prefixes(const PrefixFile& file) const;

    StepLoopStats stats() const;
    // Of the sequences that have not run yet, one each.
    void list_queued_clients(std::vector<uint64_t>& clients) const;
    // CHECKs every invariant of the cache. For tests.
    void check() const;

 private:
    void make_masks(const StepPlan& plan);
    bool awaits_pictures() const;
    void show_pictures(const StepPlan& plan);
    void add_pictures(Batch& b, Sequence& s, int first, int end) const;
    bool needs_mask(const StepPlan::Part& part) const;
    void build_batch(const StepPlan& plan, Flight& f);
    void add_draw(Batch& b, Sequence& s);
    void add_mask(Batch& b, Sequence& s, bool may_stop);
    bool may_have_drafts(const Sequence& s) const;
    int most_drafts(const Sequence& s) const;
    void look_up(Sequence& s);
    void add_drafts(const StepPlan& plan, Flight& f);
    bool is_lookup_better(const Sequence& s, double chance_of_model) const;
    void draft_by_model(int n_seqs, Flight& f);
    void choose_drafts(int n_seqs);
    void add_drafted(Batch& b, Flight::Part& part);
    void add_tokens(Batch& b, const Flight::Part& part);
    void add_rows(Batch& b, const Flight::Part& part);
    bool expects_drafts(Sequence& s, int n_seqs);
    void advance_drafted(Flight::Part& part);
    void judge_drafts(const Flight& f, int64_t n_generated);
    bool draws_on_host(const Sequence& s) const;
    bool needs_token(const Sequence& s) const;
    bool ends_anyway(const Sequence& s) const;
    bool expect_tokens(const Flight& f);
    template <class F>
    bool try_step(Flight& f, F work);
    Flight& first() { return flights_[first_]; }
    void launch();
    void collect();
    void drain();
    void advance_all(Flight& f);
    std::span<float> logits_of(size_t row);
    Drawn draw(Sequence& s, size_t row);
    Sequence& fork(const Sequence& s, int index);
    void pool(Sequence& s, int pos, std::span<const float> hidden);
    void finish_pooled(Sequence& s);
    void score(Sequence& s, int pos, size_t row);
    void advance(Sequence& s, size_t row);
    void advance_beam(Sequence& s, std::span<const float> logits);
    void branch(std::span<Sequence* const> beams, const std::vector<BeamGroup::Step>& steps);
    std::vector<Sequence*> beams_of(const BeamGroup& group) const;
    int max_beam_tokens(const Request& request) const;
    void finish(Sequence& s, FinishReason reason, const std::string& error = "",
                Failure failure = Failure::none);
    void finish_beams(Sequence& s, FinishReason reason, const std::string& error, Failure failure);
    FinishEvent finish_event(const Sequence& s, FinishReason reason) const;
    void drop(Sequence& s);
    void emit(std::shared_ptr<const Request> request, Event event);
    void drop_unheard();
    void tell_progress(const Sequence& s, int n_done) const;

    ModelRunner& runner_;
    KvCache kv_;
    Scheduler scheduler_;
    Sampler sampler_;
    std::vector<std::unique_ptr<Sequence>> sequences_;
    StepLoopStats totals_;

    // What the sinks have yet to hear, and the answers whose sink threw.
    struct Pending {
        std::shared_ptr<const Request> request;
        Event event;
    };
    std::vector<Pending> pending_;
    std::vector<std::pair<RequestId, int>> unheard_;

    DraftPolicy policy_;
    std::optional<DraftModel> draft_model_;
    Sequence::Clock::time_point last_end_ = {};  // of the step before; the epoch: nothing ran
    double grammar_spent_ = 0;                   // seconds of this step

    Flight flights_[2];
    int first_ = 0;  // of those under way
    int n_under_way_ = 0;
    // The step that was collected last.
    const Batch* batch_ = nullptr;
    StepResult result_;

    // Reused from step to step.
    std::vector<int32_t> window_blocks_;  // of the sequence that is added
    std::vector<Sequence*> masked_;       // whose grammars are asked
    std::vector<Draft> drafts_;           // of the sequence that goes on
    std::vector<int32_t> found_;
    std::vector<std::vector<double>> chances_;
    std::vector<std::span<const double>> chance_spans_;
    std::vector<Sequence*> with_drafts_;
    std::vector<int> n_chosen_;
};

}  // namespace smelt
