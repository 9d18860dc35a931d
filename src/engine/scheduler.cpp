// One total order, turn and rank, decides everything: who is served first, who is admitted next, who is
// preempted. The turns of flows are made anew for each step of how much each was served.
#include "engine/scheduler.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace smelt {

namespace {

constexpr size_t most_flows = 1024;  // that are remembered
// As often a sequence makes room for another flow: then it may end in peace.
constexpr int most_fair_preemptions = 3;
constexpr int batch_weight = 4;  // a client's single requests get four of five tokens beside its batch

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
    const auto [flow, is_new] = flows_.try_emplace({s->request->client, s->request->batch});
    if (is_new) flow->second.weight = s->request->batch ? batch_weight : 1;
    s->flow = &flow->second;
    s->rank = n_tokens_ - int64_t{s->request->priority} * options_.priority_tokens;
    insert(waiting_, s);  // a flow that is empty then goes with the next plan
    ++s->flow->n_sequences;
}

void Scheduler::add_fork(Sequence* s) {
    insert(running_, s);
    ++s->flow->n_sequences;
}

void Scheduler::remove(Sequence* s) {
    kv_.release(s->kv);
    const size_t n = std::erase(running_, s) + std::erase(waiting_, s) + std::erase(paused_, s);
    if (n > 0) --s->flow->n_sequences;
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
    take_turns();
    ++n_plans_;
    schedule_running(true);
    admit(true);
    schedule_running(false);
    admit(false);
    answers_first();
    n_tokens_ += options_.max_batch_tokens - budget_;
    return plan_;
}

// A flow that has nothing to do saves nothing up: when it is back, it begins where the least served one is,
// and what it got beyond that is remembered. One level of priority counts as in a flow, by the first in rank.
void Scheduler::take_turns() {
    const bool alone = flows_.size() < 2;
    int64_t least = std::numeric_limits<int64_t>::max();
    for (auto& [key, flow] : flows_) {
        if (flow.is_active) least = std::min(least, flow.n_served);
        flow.first_rank = std::numeric_limits<int64_t>::max();
    }
    for (const auto* list : {&running_, &waiting_}) {
        for (const Sequence* s : *list) {
            if (s->rank >= s->flow->first_rank) continue;
            s->flow->first_rank = s->rank;
            s->flow->priority = s->request->priority;
        }
    }
    for (auto& [key, flow] : flows_) {
        const bool was_active = flow.is_active;
        flow.is_active = flow.first_rank != std::numeric_limits<int64_t>::max();
        if (!was_active && least != std::numeric_limits<int64_t>::max()) {
            flow.n_served = std::max(flow.n_served, least - 1);
        }
    }
    std::erase_if(flows_, [&](const auto& entry) {
        const Flow& flow = entry.second;
        return flow.n_sequences == 0 && (flow.n_served <= least || alone || flows_.size() > most_flows);
    });
    for (auto* list : {&running_, &waiting_, &paused_}) {
        for (Sequence* s : *list) {
            const int64_t turn = s->flow->n_served - int64_t{s->flow->priority} * options_.priority_tokens;
            s->turn = alone ? 0 : turn;
        }
        if (!std::ranges::is_sorted(*list, runs_before)) std::ranges::sort(*list, runs_before);
    }
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
        if ((s.n_pending() == 1) != decodes || s.planned == n_plans_) continue;
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
        preempt(running_.back());
        if (itself) return false;
    }
    plan_.parts.push_back({&s, n});
    s.planned = n_plans_;
    budget_ -= n;
    s.flow->n_served += int64_t{n} * s.flow->weight;
    if (s.scores(s.n_scored)) n_scored_ += n;
    return true;
}

// ahead: only those whose turn comes before that of prompts which run.
void Scheduler::admit(bool ahead) {
    while (!waiting_.empty() && budget_ > 0) {
        Sequence& s = *waiting_.front();
        if (s.n_under_way > 0) return;  // it lost its blocks to others, but has results to come
        const auto waits_for_it = [&](const Sequence* r) { return r->n_pending() > 1 && s.turn < r->turn; };
        if (ahead && !std::ranges::any_of(running_, waits_for_it)) return;
        if (s.scores(s.n_scored) && n_scored_ >= options_.max_scored) return;
        // In order and no other, or a large request would wait for ever.
        if (!make_room(s)) return;
        std::erase(waiting_, &s);
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

bool Scheduler::make_room(Sequence& s) {
    while (true) {
        const bool seat = has_seat(s);
        if (seat && take_blocks(s)) return true;
        Sequence* other = who_gives_way(s, seat ? Scarce::blocks : Scarce::seats);
        if (other == nullptr) return false;
        preempt(other);
    }
}

// Of those that run: one of lower priority, or one of the flow that holds most, if it still holds no less
// than the other's when that has what it needs. Null: the other waits.
Sequence* Scheduler::who_gives_way(const Sequence& s, Scarce what) const {
    if (running_.empty()) return nullptr;
    Sequence* last = running_.back();
    if (last->request->priority < s.request->priority && runs_before(&s, last)) return last;
    if (flows_.size() < 2) return nullptr;
    const auto held = [&](const Flow* flow) {
        int n = 0;
        for (const Sequence* r : running_) {
            if (r->flow == flow)
                n += what == Scarce::seats ? r->n_seats() : static_cast<int>(r->kv.blocks.size());
        }
        return n;
    };
    const int wanted = held(s.flow) + (what == Scarce::seats ? s.n_seats() : n_missing_blocks(s));
    int most = wanted;
    Sequence* found = nullptr;
    for (Sequence* r : running_) {
        if (r->flow == s.flow || !runs_before(&s, r) || r->n_preemptions >= most_fair_preemptions) continue;
        if (const int n = held(r->flow); n > most || (found != nullptr && r->flow == found->flow)) {
            most = n;
            found = r;  // the last of its flow
        }
    }
    return found;
}

bool Scheduler::has_seat(const Sequence& s) const {
    int n = s.n_seats();
    for (const Sequence* r : running_) n += r->n_seats();
    return n <= options_.max_seqs;
}

int Scheduler::n_missing_blocks(const Sequence& s) const {
    // A sequence may hold blocks that were for drafts.
    return std::max(kv_.n_blocks_for(static_cast<int>(s.ids.size())) - static_cast<int>(s.kv.blocks.size()),
                    0);
}

// Admission: with the cached prefix, are there blocks for all of its tokens, what the running ones have yet
// to prefill, and one more for each of these?
bool Scheduler::take_blocks(Sequence& s) {
    const bool held = !s.kv.blocks.empty();  // since before it was paused
    if (!held && !s.needs_whole_prompt()) kv_.reuse_prefix(s.kv, s.ids);
    int n = n_missing_blocks(s);
    for (const Sequence* r : running_) n += n_missing_blocks(*r) + 1;
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

int Scheduler::lengthen(Sequence* s, int n) {
    const auto part = std::ranges::find(plan_.parts, s, &StepPlan::Part::sequence);
    if (part == plan_.parts.end()) return 0;
    n = std::min(n, budget_);
    while (n > 0 && !kv_.reserve(s->kv, part->n_tokens + n, plan_.copies)) n /= 2;
    if (n <= 0) return 0;
    part->n_tokens += n;
    budget_ -= n;
    n_tokens_ += n;
    s->flow->n_served += int64_t{n} * s->flow->weight;
    return n;
}

void Scheduler::put_off(Sequence* s) {
    const auto part = std::ranges::find(plan_.parts, s, &StepPlan::Part::sequence);
    if (part == plan_.parts.end()) return;
    budget_ += part->n_tokens;
    s->flow->n_served -= int64_t{part->n_tokens} * s->flow->weight;
    if (s->scores(s->n_scored)) n_scored_ -= part->n_tokens;
    plan_.parts.erase(part);
}

void Scheduler::preempt(Sequence* s) {
    std::erase(running_, s);
    put_off(s);
    kv_.release(s->kv);
    insert(waiting_, s);
    ++s->n_preemptions;
    ++n_preemptions_;
}

}  // namespace smelt
