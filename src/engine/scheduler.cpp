// One total order, rank, decides everything: who is served first, who is admitted next, who is preempted.
#include "engine/scheduler.h"

#include <algorithm>

#include "base/error.h"

namespace smelt {

namespace {

void insert(std::vector<Sequence*>& sorted, Sequence* s) {
    sorted.insert(std::ranges::upper_bound(sorted, s, runs_before), s);
}

}  // namespace

Scheduler::Scheduler(const SchedulerOptions& options, KvCache& kv) : options_(options), kv_(kv) {
    constexpr int most_seqs = 4096, most_tokens = 1 << 20;  // beyond any device; buffers are sized by them
    if (options.max_seqs < 1 || options.max_seqs > most_seqs) {
        throw Error("max_seqs: expected 1 to {}, found {}", most_seqs, options.max_seqs);
    }
    if (options.prefill_chunk < 1) {
        throw Error("prefill_chunk: expected 1 token or more, found {}", options.prefill_chunk);
    }
    if (options.max_batch_tokens <= options.max_seqs || options.max_batch_tokens > most_tokens) {
        throw Error("max_batch_tokens: expected {} (more than max_seqs) to {}, found {}",
                    options.max_seqs + 1, most_tokens, options.max_batch_tokens);
    }
    if (options.priority_tokens < 1) {
        throw Error("priority_tokens: expected 1 or more, found {}", options.priority_tokens);
    }
}

void Scheduler::add(Sequence* s) {
    s->rank = n_tokens_ - int64_t{s->request->priority} * options_.priority_tokens;
    insert(waiting_, s);
}

void Scheduler::add_fork(Sequence* s) {
    insert(running_, s);
}

void Scheduler::remove(Sequence* s) {
    kv_.release(s->kv);
    std::erase(running_, s);
    std::erase(waiting_, s);
    std::erase(paused_, s);
}

void Scheduler::pause(Sequence* s) {
    if (std::erase(running_, s) + std::erase(waiting_, s) > 0) insert(paused_, s);
}

void Scheduler::resume(Sequence* s) {
    if (std::erase(paused_, s) > 0) insert(waiting_, s);
}

const StepPlan& Scheduler::plan() {
    plan_.parts.clear();
    plan_.copies.clear();
    budget_ = options_.max_batch_tokens;
    n_scored_ = 0;
    schedule_running(true);
    schedule_running(false);
    admit();
    answers_first();
    n_tokens_ += options_.max_batch_tokens - budget_;
    return plan_;
}

// Parts that continue answers come before those of prompts; otherwise in the order that they were planned.
void Scheduler::answers_first() {
    const auto of_answer = [](const StepPlan::Part& p) {
        return p.sequence->kv.n_tokens >= p.sequence->n_prompt();
    };
    auto end = plan_.parts.begin();  // of the answers
    for (auto it = plan_.parts.begin(); it != plan_.parts.end(); ++it) {
        if (of_answer(*it)) std::rotate(end++, it, it + 1);
    }
}

void Scheduler::schedule_running(bool decodes) {
    // By index, because preemption shortens the list from behind.
    for (size_t i = 0; i < running_.size() && budget_ > 0; ++i) {
        Sequence& s = *running_[i];
        if ((s.n_pending() == 1) != decodes) continue;
        if (const int n = chunk(s); n > 0) schedule(s, n);
    }
}

int Scheduler::chunk(const Sequence& s) const {
    int n = std::min({s.n_pending(), options_.prefill_chunk, budget_});
    // Tokens of the prompt and of the answer have different roles, see StepCounts::n_generated.
    if (s.kv.n_tokens < s.n_prompt()) n = std::min(n, s.n_prompt() - s.kv.n_tokens);
    return s.scores(s.n_scored) ? std::min(n, options_.max_scored - n_scored_) : n;
}

bool Scheduler::schedule(Sequence& s, int n) {
    while (!kv_.reserve(s.kv, n, plan_.copies)) {
        if (reclaim_idle(&s)) continue;
        CHECK(running_.size() > 1, "{} tokens do not fit into {} blocks", s.ids.size(), kv_.n_blocks());
        const bool itself = running_.back() == &s;
        preempt_last();
        if (itself) return false;
    }
    plan_.parts.push_back({&s, n});
    budget_ -= n;
    if (s.scores(s.n_scored)) n_scored_ += n;
    return true;
}

void Scheduler::admit() {
    while (!waiting_.empty() && budget_ > 0) {
        Sequence& s = *waiting_.front();
        if (s.scores(s.n_scored) && n_scored_ >= options_.max_scored) return;
        if (!has_seat(s) || !take_blocks(s)) {
            // In the order of rank and no other, or a large request would wait for ever.
            if (running_.empty() || running_.back()->request->priority >= s.request->priority ||
                runs_before(running_.back(), &s)) {
                return;
            }
            preempt_last();
            continue;
        }
        waiting_.erase(waiting_.begin());
        insert(running_, &s);
        if (!s.was_admitted()) {
            s.admitted = Sequence::Clock::now();
            s.n_cached_prompt = s.kv.n_tokens;
            n_cached_prompt_ += s.n_cached_prompt;
        }
        // A beam that waits for the others has nothing to compute.
        if (const int n = chunk(s); n > 0) schedule(s, n);
    }
}

bool Scheduler::has_seat(const Sequence& s) const {
    int n = s.n_seats();
    for (const Sequence* r : running_) n += r->n_seats();
    return n <= options_.max_seqs;
}

// Admission: with the cached prefix, are there blocks for all of its tokens, what the running ones have yet
// to prefill, and one more for each of these?
bool Scheduler::take_blocks(Sequence& s) {
    const bool held = !s.kv.blocks.empty();  // since before it was paused
    if (!held && !s.needs_whole_prompt()) kv_.reuse_prefix(s.kv, s.ids);
    const auto n_missing = [&](const Sequence& r) {
        return kv_.n_blocks_for(static_cast<int>(r.ids.size())) - static_cast<int>(r.kv.blocks.size());
    };
    int n = n_missing(s);
    for (const Sequence* r : running_) n += n_missing(*r) + 1;
    while (n > kv_.n_available()) {
        if (reclaim_idle(&s)) continue;
        if (!held) kv_.release(s.kv);
        return false;
    }
    return true;
}

// Takes the blocks of the last in rank that does not run, before any that runs has to give up its own.
bool Scheduler::reclaim_idle(const Sequence* keep) {
    Sequence* last = nullptr;
    for (const auto* list : {&paused_, &waiting_}) {
        for (Sequence* s : *list) {
            if (s != keep && !s->kv.blocks.empty() && (last == nullptr || runs_before(last, s))) last = s;
        }
    }
    if (last == nullptr) return false;
    kv_.release(last->kv);
    ++last->n_preemptions;
    ++n_preemptions_;
    return true;
}

void Scheduler::preempt_last() {
    Sequence* s = running_.back();
    running_.pop_back();
    const auto part = std::ranges::find(plan_.parts, s, &StepPlan::Part::sequence);
    if (part != plan_.parts.end()) {
        budget_ += part->n_tokens;
        if (s->scores(s->n_scored)) n_scored_ -= part->n_tokens;
        plan_.parts.erase(part);
    }
    kv_.release(s->kv);
    insert(waiting_, s);
    ++s->n_preemptions;
    ++n_preemptions_;
}

}  // namespace smelt
