// The step: plan -> copies and batch -> device -> blocks are known -> tokens.
#include "engine/step_loop.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_error.h"

namespace smelt {

namespace {

double seconds(Sequence::Clock::duration d) {
    return std::chrono::duration<double>(d).count();
}

bool contains(const std::vector<int32_t>& ids, int32_t id) {
    return std::ranges::find(ids, id) != ids.end();
}

}  // namespace

StepLoop::StepLoop(ModelRunner& runner, const SchedulerOptions& options)
    : runner_(runner),
      kv_(runner.shape().n_blocks, runner.shape().block_len, runner.shape().windows),
      scheduler_(options, kv_),
      sampler_(runner.shape().vocab_size) {
    // The largest step, because a vector that is refilled grows to just what it holds, every time.
    for (std::vector<int32_t>* v : {&batch_.ids, &batch_.positions, &batch_.slots, &batch_.window_slots}) {
        v->reserve(static_cast<size_t>(options.max_batch_tokens));
    }
    for (std::vector<int32_t>* v : {&batch_.block_table, &batch_.window_table}) {
        v->reserve(static_cast<size_t>(options.max_seqs) *
                   static_cast<size_t>(kv_.n_blocks_for(limits().max_tokens())));
    }
    const WindowPool& windows = runner.shape().windows;
    CHECK(windows.n_parts == 0 ||
              windows.n_parts >= window_parts_for(windows.window, kv_.block_len(), options.max_seqs,
                                                  options.max_batch_tokens),
          "{} parts", windows.n_parts);
}

void StepLoop::load_prefixes(const PrefixFile& file) {
    try {
        const size_t n = smelt::load_prefixes(file, kv_, runner_);
        spdlog::info("{}: {} tokens of prefixes", file.path.string(),
                     n * static_cast<size_t>(kv_.block_len()));
    } catch (const std::exception& e) {
        spdlog::warn("the prefix cache begins empty: {}", e.what());
    }
}

void StepLoop::save_prefixes(const PrefixFile& file) const {
    try {
        const size_t n = smelt::save_prefixes(file, kv_, runner_);
        spdlog::info("{}: kept {} tokens of prefixes", file.path.string(),
                     n * static_cast<size_t>(kv_.block_len()));
    } catch (const std::exception& e) {
        spdlog::error("the prefix cache is not kept: {}", e.what());
    }
}

RequestLimits StepLoop::limits() const {
    const RunnerShape& shape = runner_.shape();
    return {.vocab_size = shape.vocab_size,
            .n_ctx = shape.n_ctx,
            .kv_tokens = shape.n_blocks * shape.block_len,
            .max_seqs = scheduler_.options().max_seqs,
            .block_len = shape.block_len};
}

void StepLoop::add(RequestId id, std::shared_ptr<const Request> request, uint64_t seed,
                   Sequence::Clock::time_point submitted) {
    auto s = std::make_unique<Sequence>();
    s->id = id;
    s->seed = seed;
    s->submitted = submitted;
    // All that it can grow to, so that steps allocate nothing.
    const int room = limits().max_tokens() - static_cast<int>(request->tokens.size());
    const int answer = request->max_tokens < 0 ? room : std::min(request->max_tokens, room);
    s->ids.reserve(request->tokens.size() + static_cast<size_t>(answer));
    s->kv.blocks.reserve(static_cast<size_t>(kv_.n_blocks_for(static_cast<int>(s->ids.capacity()))));
    s->ids = request->tokens;
    s->kv.salt = request->cache_salt;
    s->forked = request->n == 1 && request->beams.width == 0;
    if (request->grammar) s->grammar.emplace(request->grammar);
    if (request->thinking.n_tokens >= 0) s->thinking.emplace(request->thinking);
    if (request->beams.width > 0) s->beams = std::make_shared<BeamGroup>();
    s->request = std::move(request);
    sequences_.push_back(std::move(s));
    try {
        scheduler_.add(sequences_.back().get());
    } catch (...) {
        sequences_.pop_back();
        throw;
    }
}

void StepLoop::cancel(RequestId id, int index) {
    for (size_t i = sequences_.size(); i-- > 0;) {
        if (i >= sequences_.size()) continue;  // beams end together
        Sequence& s = *sequences_[i];
        if (s.beams && index >= 0) continue;  // none of them is an answer yet
        if (s.id == id && (index < 0 || (s.forked && s.index == index))) finish(s, FinishReason::cancelled);
    }
}

void StepLoop::pause(RequestId id) {
    for (const auto& s : sequences_) {
        if (s->id == id) scheduler_.pause(s.get());
    }
}

void StepLoop::resume(RequestId id) {
    for (const auto& s : sequences_) {
        if (s->id == id) scheduler_.resume(s.get());
    }
}

void StepLoop::end_all(FinishReason reason, const std::string& error, Failure failure) {
    while (!sequences_.empty()) finish(*sequences_.back(), reason, error, failure);
}

void StepLoop::step() {
    const StepPlan& plan = scheduler_.plan();
    if (plan.parts.empty()) return;
    build_batch(plan);
    if (!run(plan)) return;

    for (const StepPlan::Part& part : plan.parts) {
        Sequence& s = *part.sequence;
        if (part.n_tokens > 1 || s.n_generated() == 0) totals_.n_prefilled += part.n_tokens;
        kv_.commit(s.kv, s.ids, part.n_tokens);
    }
    const auto vocab_size = static_cast<size_t>(runner_.shape().vocab_size);
    const auto dim = static_cast<size_t>(runner_.shape().dim);
    const size_t n_logits = batch_.logits_rows.size() * vocab_size;
    CHECK(logits_.size() == n_logits + batch_.hidden_rows.size() * dim, "{} logits", logits_.size());
    std::span<float> rows = std::span(logits_).first(n_logits);
    std::span<const float> hidden = std::span(logits_).subspan(n_logits);
    for (const StepPlan::Part& part : plan.parts) {
        Sequence& s = *part.sequence;
        std::span<float> logits;
        bool heard = true;
        for (int pos = s.kv.n_tokens - part.n_tokens; pos < s.kv.n_tokens; ++pos) {
            if (s.pools(pos)) {
                pool(s, pos, hidden.first(dim));
                hidden = hidden.subspan(dim);
            }
            if (!s.wants_logits(pos)) continue;
            logits = rows.first(vocab_size);
            rows = rows.subspan(vocab_size);
            if (heard && s.scores(pos)) heard = score(s, pos, logits);
        }
        if (!heard) {
            drop(s);
            continue;
        }
        if (s.n_pending() > 0) continue;
        if (s.request->pooling != Pooling::none) {
            finish_pooled(s);
            continue;
        }
        if (!s.forked) {
            s.forked = true;
            for (int index = 1; !s.beams && index < s.request->n; ++index) advance(fork(s, index), logits);
        }
        advance(s, logits);
    }
}

bool StepLoop::run(const StepPlan& plan) {
    std::string error;
    Failure failure = Failure::device;
    try {
        if (!plan.copies.empty()) runner_.copy_blocks(plan.copies);
        runner_.run(batch_, logits_);
        ++totals_.n_steps;
        return true;
    } catch (const std::bad_alloc&) {
        error = "too little memory for this step";
        failure = Failure::memory;
    } catch (const MemoryError& e) {
        error = e.what();
        failure = Failure::memory;
    } catch (const std::exception& e) {
        error = e.what();
    } catch (...) {
        error = "unknown exception";
    }
    ++totals_.n_failed_steps;
    spdlog::error("a step of {} tokens failed: {}", batch_.n_tokens(), error);
    for (const StepPlan::Part& part : plan.parts) {
        const auto is_there = [&](const auto& owned) { return owned.get() == part.sequence; };
        if (std::ranges::none_of(sequences_, is_there)) continue;  // beams end together
        finish(*part.sequence, FinishReason::error, error, failure);
    }
    return false;
}

// The prompt is computed: another answer of the request goes on from here, with shared blocks.
Sequence& StepLoop::fork(const Sequence& s, int index) {
    auto owned = std::make_unique<Sequence>(s);
    owned->kv = {};  // whatever throws from here on, it holds no block that is not counted
    sequences_.push_back(std::move(owned));
    Sequence& copy = *sequences_.back();
    copy.index = index;
    copy.kv = kv_.fork(s.kv);
    copy.ids.reserve(s.ids.capacity());
    copy.kv.blocks.reserve(s.kv.blocks.capacity());
    scheduler_.add_fork(&copy);
    return copy;
}

// Tells how likely the token behind position `pos` was; false: the sequence is not to go on.
bool StepLoop::score(Sequence& s, int pos, std::span<const float> logits) {
    const int32_t id = s.ids[static_cast<size_t>(pos) + 1];
    s.n_scored = pos + 1;
    Drawn drawn = sampler_.score(logits, id, s.request->n_prompt_logprobs);
    // Where the numbers are none, the answer's own end says so.
    return emit(*s.request, TokenEvent{.request = s.id,
                                       .index = s.index,
                                       .id = id,
                                       .logprob = drawn.logprob,
                                       .top = std::move(drawn.top),
                                       .of_prompt = true});
}

// In the order of positions and in double, so that chunks do not change the sum.
void StepLoop::pool(Sequence& s, int pos, std::span<const float> hidden) {
    s.pooled.resize(hidden.size());
    for (size_t i = 0; i < hidden.size(); ++i) s.pooled[i] += static_cast<double>(hidden[i]);
    s.n_pooled = s.request->pooling == Pooling::mean ? pos + 1 : 1;
}

void StepLoop::finish_pooled(Sequence& s) {
    const auto is_number = [](double sum) { return std::isfinite(sum); };
    if (std::ranges::all_of(s.pooled, is_number)) return finish(s, FinishReason::length);
    finish(s, FinishReason::error, "the hidden states are not numbers", Failure::numbers);
}

// Which tokens the grammar allows, into allowed_; false: it cannot be told.
bool StepLoop::allow(Sequence& s, bool may_stop) {
    const auto begin = Sequence::Clock::now();
    const std::span<const uint64_t> allowed = s.grammar->allowed();
    allowed_.assign(allowed.begin(), allowed.end());
    if (allowed.empty()) return false;
    allowed_.resize((static_cast<size_t>(runner_.shape().vocab_size) + 63) / 64);
    const bool ends = may_stop && s.grammar->may_end();
    for (const int32_t id : s.request->stop_ids) {
        uint64_t& word = allowed_[static_cast<size_t>(id) / 64];
        const uint64_t bit = uint64_t{1} << (id % 64);
        word = ends ? word | bit : word & ~bit;
    }
    const double elapsed = seconds(Sequence::Clock::now() - begin);
    s.grammar_seconds += elapsed;
    totals_.grammar_seconds += elapsed;
    ++totals_.n_constrained;
    return true;
}

void StepLoop::allow_only(int32_t id) {
    allowed_.assign((static_cast<size_t>(runner_.shape().vocab_size) + 63) / 64, 0);
    allowed_[static_cast<size_t>(id) / 64] = uint64_t{1} << (id % 64);
}

void StepLoop::advance(Sequence& s, std::span<float> logits) {
    const Request& r = *s.request;
    if (s.n_generated() == r.max_tokens) return finish(s, FinishReason::length);
    if (s.beams) return advance_beam(s, logits);

    DrawOptions options{.n_logprobs = r.n_logprobs,
                        .random = random_bits(s.seed, static_cast<uint64_t>(s.index),
                                              static_cast<uint64_t>(s.n_generated()))};
    if (has_penalties(r.sampling)) {
        s.counts.update(s.ids, s.n_prompt(), r.sampling.penalty_last_n);
        options.counts = &s.counts;
    }
    if (r.sampling.dry_multiplier > 0) options.ids = s.ids;
    const bool may_stop = !r.ignore_eos && s.n_generated() >= r.min_tokens;
    if (!may_stop) options.banned = r.stop_ids;
    if (s.grammar) {
        if (s.grammar->must_end()) return finish(s, FinishReason::complete);
        if (!allow(s, may_stop)) {
            return finish(s, FinishReason::error, "the grammar takes too much work", Failure::numbers);
        }
        options.allowed = allowed_;
    }
    if (const int32_t id = s.thinking ? s.thinking->forced(r.thinking) : -1; id >= 0) {
        allow_only(id);
        options.allowed = allowed_;
        options.banned = {};
    }
    Drawn drawn = sampler_.draw(logits, r.sampling, options);
    if (drawn.id < 0) return finish(s, FinishReason::error, drawn.problem, Failure::numbers);

    s.ids.push_back(drawn.id);
    if (s.thinking) s.thinking->accept(r.thinking, drawn.id);
    s.cumulative_logprob += static_cast<double>(drawn.logprob);
    ++totals_.n_generated;
    if (s.n_generated() == 1) s.first_token = Sequence::Clock::now();
    if (contains(r.stop_ids, drawn.id)) return finish(s, FinishReason::stop_id);
    if (s.grammar && !s.grammar->accept(drawn.id)) {
        return finish(s, FinishReason::error, "the grammar takes too much work", Failure::numbers);
    }
    if (!emit(r, TokenEvent{.request = s.id,
                            .index = s.index,
                            .id = drawn.id,
                            .logprob = drawn.logprob,
                            .top = std::move(drawn.top)})) {
        return drop(s);
    }
    if (s.grammar && s.grammar->must_end()) return finish(s, FinishReason::complete);
    if (s.n_generated() == r.max_tokens) return finish(s, FinishReason::length);
    if (static_cast<int>(s.ids.size()) >= limits().max_tokens()) finish(s, FinishReason::context);
}

FinishEvent StepLoop::finish_event(const Sequence& s, FinishReason reason) const {
    const auto now = Sequence::Clock::now(), never = Sequence::Clock::time_point();
    const auto admitted = s.admitted == never ? now : s.admitted;
    const auto first_token = s.first_token == never ? now : s.first_token;
    return {.request = s.id,
            .index = s.index,
            .reason = reason,
            .stop_id = reason == FinishReason::stop_id ? s.ids.back() : -1,
            .n_prompt = s.n_prompt(),
            .n_cached_prompt = s.n_cached_prompt,
            .n_generated = s.n_generated(),
            .n_preemptions = s.n_preemptions,
            .grammar = s.grammar_seconds,
            .cumulative_logprob = s.cumulative_logprob,
            .queued = seconds(admitted - s.submitted),
            .prefill = seconds(first_token - admitted),
            .decode = seconds(now - first_token)};
}

void StepLoop::finish(Sequence& s, FinishReason reason, const std::string& error, Failure failure) {
    if (s.beams) return finish_beams(s, reason, error, failure);
    FinishEvent event = finish_event(s, reason);
    event.error = error;
    event.failure = failure;
    if (s.request->pooling != Pooling::none && reason == FinishReason::length) {
        for (const double sum : s.pooled) event.embedding.push_back(static_cast<float>(sum / s.n_pooled));
    }
    const std::shared_ptr<const Request> request = s.request;
    const int end = s.index + s.n_seats();  // a prompt that is not computed ends for all its answers
    drop(s);
    for (; event.index < end; ++event.index) emit(*request, event);
}

void StepLoop::drop(Sequence& s) {
    scheduler_.remove(&s);
    std::erase_if(sequences_, [&](const auto& owned) { return owned.get() == &s; });
}

bool StepLoop::emit(const Request& request, Event event) {
    try {
        request.sink(std::move(event));
        return true;
    } catch (const std::exception& e) {
        spdlog::error("an answer is dropped because its sink threw: {}", e.what());
    } catch (...) {
        spdlog::error("an answer is dropped because its sink threw");
    }
    return false;
}

StepLoopStats StepLoop::stats() const {
    StepLoopStats s = totals_;
    s.n_running = static_cast<int>(scheduler_.running().size());
    s.n_paused = static_cast<int>(scheduler_.paused().size());
    for (const Sequence* w : scheduler_.waiting()) ++(w->was_admitted() ? s.n_preempted : s.n_queued);
    s.n_blocks = kv_.n_blocks();
    s.n_used_blocks = kv_.n_used();
    s.n_cached_blocks = kv_.n_cached();
    s.n_preemptions = scheduler_.n_preemptions();
    s.n_cached_prompt = scheduler_.n_cached_prompt();
    return s;
}

void StepLoop::check() const {
    std::vector<const KvSequence*> all;
    for (const auto& s : sequences_) all.push_back(&s->kv);
    kv_.check(all);
    const size_t n_known =
        scheduler_.running().size() + scheduler_.waiting().size() + scheduler_.paused().size();
    CHECK(n_known == sequences_.size(), "{} scheduled, {} owned", n_known, sequences_.size());
    for (const auto* list : {&scheduler_.running(), &scheduler_.waiting(), &scheduler_.paused()}) {
        CHECK(std::ranges::is_sorted(*list, runs_before));
    }
}

}  // namespace smelt
