// What sinks hear of a step: tokens, ends, and how far a prompt is. An answer that nobody hears is dropped.
#include <algorithm>
#include <utility>

#include "base/log.h"
#include "engine/step_loop.h"

namespace smelt {

void StepLoop::tell_progress(const Sequence& s, int n_done) const {
    if (!s.request->progress || s.index != 0 || s.n_generated() > 0 || n_done > s.n_prompt()) return;
    try {
        s.request->progress({.n_prompt = s.n_prompt(),
                             .n_cached = s.n_cached_prompt,
                             .n_done = n_done,
                             .seconds = seconds(Sequence::Clock::now() - s.admitted)});
    } catch (const std::exception& e) {
        spdlog::error("how far a prompt is was not told: {}", e.what());
    }
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
            .n_drafted = s.drafting.n_drafted,
            .n_draft_accepted = s.drafting.n_accepted,
            .has_prediction = !s.request->prediction.empty(),
            .grammar = s.grammar_seconds,
            .cumulative_logprob = s.cumulative_logprob,
            .queued = seconds(admitted - s.submitted),
            .prefill = seconds(first_token - admitted),
            .decode = seconds(now - first_token)};
}

void StepLoop::finish(Sequence& s, FinishReason reason, const std::string& error, Failure failure) {
    if (s.ids.back() < 0) s.ids.pop_back();
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
    for (; event.index < end; ++event.index) emit(request, event);
}

void StepLoop::emit(std::shared_ptr<const Request> request, Event event) {
    if (pending_.size() == pending_.capacity()) flush();  // nothing is allocated here
    pending_.push_back({std::move(request), std::move(event)});
}

void StepLoop::flush() {
    for (Pending& p : pending_) {
        const auto [id, index] =
            std::visit([](const auto& e) { return std::pair(e.request, e.index); }, p.event);
        // Nothing may leave this loop: a step is under way.
        constexpr const char* dropped = "an answer is dropped because its sink threw";
        try {
            p.request->sink(std::move(p.event));
            continue;
        } catch (const std::exception& e) {
            spdlog::error("{}: {}", dropped, e.what());
        } catch (...) {
            spdlog::error(dropped);
        }
        if (unheard_.size() < unheard_.capacity()) unheard_.emplace_back(id, index);
    }
    pending_.clear();
}

// Answers that nobody hears do not go on; nor do events of theirs that wait.
void StepLoop::drop_unheard() {
    for (const auto& [id, index] : unheard_) {
        const auto it =
            std::ranges::find_if(sequences_, [&](const auto& s) { return s->id == id && s->index == index; });
        if (it != sequences_.end()) drop(**it);
        std::erase_if(pending_, [&](const Pending& p) {
            return std::visit([&](const auto& e) { return e.request == id && e.index == index; }, p.event);
        });
    }
    unheard_.clear();
}

}  // namespace smelt
