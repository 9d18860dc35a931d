// The step: plan -> copies and batch -> device -> blocks are known -> tokens -> events.
#include "engine/step_loop.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "base/memory_error.h"

namespace smelt {

namespace {

bool contains(const std::vector<int32_t>& ids, int32_t id) {
    return std::ranges::find(ids, id) != ids.end();
}

}  // namespace

StepLoop::~StepLoop() {
    drain();
}

StepLoop::StepLoop(ModelRunner& runner, const SchedulerOptions& options, const DraftOptions& drafts,
                   ModelRunner* draft)
    : runner_(runner),
      kv_(runner.shape().n_blocks, runner.shape().block_len, runner.shape().windows),
      scheduler_(options, kv_),
      sampler_(runner.shape().vocab_size),
      policy_(drafts) {
    if (draft != nullptr) draft_model_.emplace(*draft, options);
    const int max_steps = runner.shape().max_steps;
    CHECK(max_steps == 1 || max_steps == 2, "{} steps", max_steps);
    // The largest step, because a vector that is refilled grows to just what it holds, every time.
    const auto max_tokens = static_cast<size_t>(options.max_batch_tokens);
    const auto max_seqs = static_cast<size_t>(options.max_seqs);
    for (Flight& f : std::span(flights_).first(static_cast<size_t>(max_steps))) {
        Batch* batch = &f.batch;
        f.parts.reserve(max_seqs);
        for (auto* v : {&batch->ids, &batch->positions, &batch->slots, &batch->window_slots})
            v->reserve(max_tokens);
        for (auto* v : {&batch->blocks, &batch->window_blocks}) {
            v->reserve(max_seqs * static_cast<size_t>(kv_.n_blocks_for(limits().max_tokens())));
        }
        batch->draws.reserve(max_seqs);
    }
    masked_.reserve(max_seqs);
    pending_.reserve(2 * max_seqs);
    unheard_.reserve(2 * max_seqs);
    const WindowPool& windows = runner.shape().windows;
    CHECK(windows.n_parts == 0 ||
              windows.n_parts >= window_parts_for(windows.window, kv_.block_len(), options.max_seqs,
                                                  max_steps * options.max_batch_tokens),
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
            .block_len = shape.block_len,
            .pictures = runner_.takes_pictures(),
            .n_adapters = shape.n_adapters};
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
    s->rope_positions = RopePositions(request->pictures);
    s->kv.salt = prefix_salt(*request);
    if (runner_.shape().two_classes) s->kv.n_prompt = static_cast<int>(request->tokens.size());
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

void StepLoop::set_adapter(int number, const Adapter* adapter) {
    drain();
    runner_.set_adapter(number, adapter);
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
    flush();
    drain();
}

void StepLoop::step() {
    if (n_under_way_ == 0) launch();
    const bool runs = n_under_way_ > 0;
    if (n_under_way_ == 1 && runner_.shape().max_steps > 1 && !awaits_pictures() && expect_tokens(first()))
        launch();
    if (runs) {
        flush();
        collect();
    }
    if (!can_step()) last_end_ = {};
    const bool can_plan = !scheduler_.running().empty() || !scheduler_.waiting().empty();
    if (!runs || !can_plan) flush();
    if (!can_plan && n_under_way_ > 0 && first().forsaken()) collect();
    drop_unheard();
}

// Does something for a step. What is thrown ends the step's sequences with an error; false then.
template <class F>
bool StepLoop::try_step(Flight& f, F work) {
    std::string error;
    Failure failure = Failure::device;
    try {
        work();
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
    spdlog::error("a step of {} tokens failed: {}", f.batch.n_tokens(), error);
    for (const Flight::Part& part : f.parts) {
        if (part.sequence != nullptr) finish(*part.sequence, FinishReason::error, error, failure);
    }
    return false;
}

// Whether the next step may need features that are not there: they are made while no step is under way.
bool StepLoop::awaits_pictures() const {
    const auto awaits = [](const Sequence* s) {
        return s->features.empty() && s->shows(s->kv.n_tokens, static_cast<int>(s->ids.size()));
    };
    return std::ranges::any_of(scheduler_.running(), awaits) ||
           std::ranges::any_of(scheduler_.waiting(), awaits);
}

// Makes the features that the planned tokens need. Whose cannot be made ends with an error and is not in the
// step.
void StepLoop::show_pictures(const StepPlan& plan) {
    std::vector<std::pair<Sequence*, std::string>> failed;
    for (const StepPlan::Part& part : plan.parts) {
        Sequence& s = *part.sequence;
        const int first = s.kv.n_tokens;
        if (s.request->pictures.empty() || !s.shows(first, first + part.n_tokens)) continue;
        try {
            for (size_t i = s.features.size(); i < s.request->pictures.size(); ++i)
                s.features.push_back(runner_.features(*s.request->pictures[i].patches));
        } catch (const std::exception& e) {
            failed.emplace_back(&s, e.what());
        }
    }
    for (const auto& [s, error] : failed) {
        scheduler_.put_off(s);
        finish(*s, FinishReason::error, error, Failure::memory);
    }
}

// Plans a step and starts it, unless there is nothing to do.
void StepLoop::launch() {
    const StepPlan& plan = scheduler_.plan();
    show_pictures(plan);
    if (plan.parts.empty()) return;
    make_masks(plan);
    Flight& f = flights_[(first_ + n_under_way_) % 2];
    f.clear();
    if (last_end_ == Sequence::Clock::time_point()) last_end_ = Sequence::Clock::now();
    add_drafts(plan, f);
    build_batch(plan, f);
    const auto start = [&] {
        if (!plan.copies.empty()) runner_.copy_blocks(plan.copies);
        runner_.launch(f.batch);
    };
    if (!try_step(f, start)) return;
    ++n_under_way_;
    for (const Flight::Part& part : f.parts) {
        kv_.advance(part.sequence->kv, part.n_tokens);
        ++part.sequence->n_under_way;
        if (part.first == part.sequence->n_cached_prompt) tell_progress(*part.sequence, part.first);
    }
}

// Waits for the first step under way, whose sequences go on by what it brought.
void StepLoop::collect() {
    Flight& f = first();
    if (runner_.shape().max_steps > 1) first_ = 1 - first_;
    --n_under_way_;
    for (const Flight::Part& part : f.parts) {
        if (part.sequence != nullptr) --part.sequence->n_under_way;
    }
    if (!try_step(f, [&] { result_ = runner_.collect(); })) return;
    ++totals_.n_steps;
    batch_ = &f.batch;
    const int64_t n_generated = totals_.n_generated;
    advance_all(f);
    judge_drafts(f, totals_.n_generated - n_generated);
}

// What is under way when nobody waits for it any more.
void StepLoop::drain() {
    while (n_under_way_ > 0) collect();
}

std::span<float> StepLoop::logits_of(size_t row) {
    const auto vocab_size = static_cast<size_t>(runner_.shape().vocab_size);
    // The rows are the step's own: drawing changes some logits for a moment.
    return {const_cast<float*>(result_.logits.data()) + row * vocab_size, vocab_size};
}

// Blocks are known, then every sequence goes on by what the step brought.
void StepLoop::advance_all(Flight& f) {
    for (const Flight::Part& part : f.parts) {
        if (part.sequence == nullptr) continue;
        Sequence& s = *part.sequence;
        const int n = part.n_tokens - part.n_drafts;
        if (n > 1 || part.first < s.n_prompt()) totals_.n_prefilled += n;
        kv_.commit(s.kv, s.ids, n);
        tell_progress(s, part.first + part.n_tokens);
    }
    const auto dim = static_cast<size_t>(runner_.shape().dim);
    for (Flight::Part& part : f.parts) {
        if (part.sequence == nullptr) continue;
        if (part.n_drafts > 0) {
            advance_drafted(part);
            continue;
        }
        Sequence& s = *part.sequence;
        // The place that was kept for the token.
        if (s.ids.back() < 0) s.ids.pop_back();
        const int end = part.first + part.n_tokens;
        auto row = static_cast<size_t>(part.first_row), hidden = static_cast<size_t>(part.first_hidden);
        for (int pos = part.first; pos < end; ++pos) {
            if (s.pools(pos)) pool(s, pos, result_.hidden.subspan(dim * hidden++, dim));
            if (s.scores(pos)) score(s, pos, row++);
        }
        // More of it is to be computed, or another beam of the step has moved it on.
        if (static_cast<int>(s.ids.size()) != end) continue;
        if (s.request->pooling != Pooling::none) {
            finish_pooled(s);
            continue;
        }
        if (!s.forked) {
            s.forked = true;
            for (int index = 1; !s.beams && index < s.request->n; ++index) advance(fork(s, index), row);
        }
        advance(s, row);
    }
}

// The prompt is computed: another answer of the request goes on from here, with shared blocks.
Sequence& StepLoop::fork(const Sequence& s, int index) {
    auto owned = std::make_unique<Sequence>(s);
    owned->kv = {};  // whatever throws from here on, it holds no block that is not counted
    owned->drafting.model_kv = {};
    sequences_.push_back(std::move(owned));
    Sequence& copy = *sequences_.back();
    copy.index = index;
    copy.kv = kv_.fork(s.kv);
    copy.ids.reserve(s.ids.capacity());
    copy.kv.blocks.reserve(s.kv.blocks.capacity());
    scheduler_.add_fork(&copy);
    return copy;
}

// Tells how likely the token after position `pos` was.
void StepLoop::score(Sequence& s, int pos, size_t row) {
    const int32_t id = s.ids[static_cast<size_t>(pos) + 1];
    s.n_scored = pos + 1;
    Drawn drawn = sampler_.score(logits_of(row), id, s.request->n_prompt_logprobs);
    // Where the numbers are none, the answer's own end says so.
    emit(s.request, TokenEvent{.request = s.id,
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

// The token that the device drew for the row, or one drawn here from the whole row.
Drawn StepLoop::draw(Sequence& s, size_t row) {
    const Request& r = *s.request;
    const DrawRow& how = batch_->draws[row];
    if (how.draws != 0) {
        const int32_t id = result_.tokens[row];
        if (id < 0) return {.problem = to_string(static_cast<DrawProblem>(id))};
        Drawn drawn{.id = id, .logprob = r.n_logprobs < 0 ? 0 : result_.logprobs[row]};
        const double log_sum = r.n_logprobs <= 0 ? 0
                                                 : static_cast<double>(result_.log_sums[2 * row]) +
                                                       static_cast<double>(result_.log_sums[2 * row + 1]);
        const size_t width = result_.top_ids.size() / std::max<size_t>(1, batch_->logits_rows.size());
        for (size_t i = row * width;
             static_cast<int>(drawn.top.size()) < r.n_logprobs && i < (row + 1) * width; ++i) {
            const float logit = result_.top_logits[i];
            if (logit == -std::numeric_limits<float>::infinity()) break;
            drawn.top.push_back(
                {result_.top_ids[i], static_cast<float>(static_cast<double>(logit) - log_sum)});
        }
        return drawn;
    }
    DrawOptions options{.n_logprobs = r.n_logprobs,
                        .random = random_bits(s.seed, static_cast<uint64_t>(s.index),
                                              static_cast<uint64_t>(s.n_generated()))};
    if (has_penalties(r.sampling)) {
        s.counts.update(s.ids, s.n_prompt(), r.sampling.penalty_last_n);
        options.counts = &s.counts;
    }
    if (r.sampling.dry_multiplier > 0) options.ids = s.ids;
    const bool forced = s.thinking && s.thinking->forced(r.thinking) >= 0;
    if (!forced && (r.ignore_eos || s.n_generated() < r.min_tokens)) options.banned = r.stop_ids;
    if (how.masked != 0) {
        const auto words = static_cast<size_t>(batch_->mask_words);
        options.allowed = std::span(batch_->masks).subspan(row * words, words);
    }
    return sampler_.draw(logits_of(row), r.sampling, options);
}

void StepLoop::advance(Sequence& s, size_t row) {
    const Request& r = *s.request;
    if (s.n_generated() == r.max_tokens) return finish(s, FinishReason::length);
    if (s.beams) return advance_beam(s, logits_of(row));
    if (s.grammar && s.grammar->must_end()) return finish(s, FinishReason::complete);
    if (s.mask_failed) {
        return finish(s, FinishReason::error, "the grammar takes too much work", Failure::grammar);
    }
    Drawn drawn = draw(s, row);
    if (s.grammar && batch_->draws[row].masked != 0) ++totals_.n_constrained;
    if (drawn.id < 0) return finish(s, FinishReason::error, drawn.problem, Failure::numbers);

    s.ids.push_back(drawn.id);
    if (!s.drafting.proposed.empty()) {
        policy_.see(s.drafting.proposed[0].kind, s.drafting.proposed[0].id == drawn.id,
                    s.drafting.acceptances);
        s.drafting.proposed.clear();
    }
    if (s.thinking) s.thinking->accept(r.thinking, drawn.id);
    s.cumulative_logprob += static_cast<double>(drawn.logprob);
    ++totals_.n_generated;
    if (s.n_generated() == 1) s.first_token = Sequence::Clock::now();
    if (contains(r.stop_ids, drawn.id)) return finish(s, FinishReason::stop_id);
    if (s.grammar && !s.grammar->accept(drawn.id)) {
        return finish(s, FinishReason::error, "the grammar takes too much work", Failure::grammar);
    }
    emit(s.request, TokenEvent{.request = s.id,
                               .index = s.index,
                               .id = drawn.id,
                               .logprob = drawn.logprob,
                               .top = std::move(drawn.top)});
    if (s.grammar && s.grammar->must_end()) return finish(s, FinishReason::complete);
    if (s.n_generated() == r.max_tokens) return finish(s, FinishReason::length);
    if (static_cast<int>(s.ids.size()) >= limits().max_tokens()) finish(s, FinishReason::context);
}

void StepLoop::drop(Sequence& s) {
    if (draft_model_) draft_model_->release(s);
    scheduler_.remove(&s);
    for (Flight& f : flights_) f.forget(s);
    std::erase_if(sequences_, [&](const auto& owned) { return owned.get() == &s; });
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

void StepLoop::list_queued_clients(std::vector<uint64_t>& clients) const {
    clients.clear();
    for (const Sequence* w : scheduler_.waiting()) {
        if (!w->was_admitted()) clients.push_back(w->request->client);
    }
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
