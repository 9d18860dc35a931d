// The part of the step loop that is about beam search: beams wait for each other, then all go on at once,
// their common past in shared blocks.
#include <algorithm>

#include "base/error.h"
#include "engine/step_loop.h"

namespace smelt {

std::vector<Sequence*> StepLoop::beams_of(const BeamGroup& group) const {
    std::vector<Sequence*> beams;
    for (const auto& s : sequences_) {
        if (s->beams.get() == &group) beams.push_back(s.get());
    }
    std::ranges::sort(beams, {}, &Sequence::index);
    return beams;
}

int StepLoop::max_beam_tokens(const Request& r) const {
    const int room = limits().max_beam_tokens(static_cast<int>(r.tokens.size()), r.beams.width);
    return r.max_tokens < 0 ? room : std::min(r.max_tokens, room);
}

namespace {

std::vector<BeamGroup::Beam> views(std::span<Sequence* const> beams) {
    std::vector<BeamGroup::Beam> result;
    for (const Sequence* s : beams) {
        const auto answer = std::span<const int32_t>(s->ids).subspan(static_cast<size_t>(s->n_prompt()));
        result.push_back({answer, s->cumulative_logprob, s->likeliest});
    }
    return result;
}

}  // namespace

void StepLoop::advance_beam(Sequence& s, std::span<const float> logits) {
    const Request& r = *s.request;
    const size_t n_wanted = 2 * static_cast<size_t>(r.beams.width);
    Drawn drawn = sampler_.score(logits, 0, static_cast<int>(n_wanted + r.stop_ids.size()));
    if (drawn.problem != nullptr) return finish(s, FinishReason::error, drawn.problem, Failure::numbers);
    s.likeliest = std::move(drawn.top);
    if (r.ignore_eos || s.n_generated() < r.min_tokens) {
        std::erase_if(s.likeliest, [&](const TokenLogprob& t) {
            return std::ranges::find(r.stop_ids, t.id) != r.stop_ids.end();
        });
    }
    if (s.likeliest.size() > n_wanted) s.likeliest.resize(n_wanted);
    if (s.likeliest.empty()) return finish(s, FinishReason::error, "every token is banned", Failure::numbers);

    const std::vector<Sequence*> beams = beams_of(*s.beams);
    const auto waits = [](const Sequence* b) { return !b->likeliest.empty() && b->n_pending() == 0; };
    if (!std::ranges::all_of(beams, waits)) return;
    const int most = max_beam_tokens(r);
    const auto steps = s.beams->advance(views(beams), r, most);
    if (steps.empty()) return finish(s, FinishReason::stop_id);
    branch(beams, steps);
    Sequence& first = *beams[0];
    if (first.n_generated() < most) return;
    finish(first, most == r.max_tokens ? FinishReason::length : FinishReason::context);
}

// Gives each step a sequence: the first ones to those that are there, so that the first is always there.
void StepLoop::branch(std::span<Sequence* const> beams, const std::vector<BeamGroup::Step>& steps) {
    struct Next {
        std::vector<int32_t> ids;
        KvSequence kv;
        double cumulative_logprob;
    };
    std::vector<Next> next;
    for (const BeamGroup::Step& step : steps) {
        const Sequence& parent = *beams[step.beam];
        Next& n = next.emplace_back();
        n.ids.reserve(parent.ids.capacity());
        n.ids = parent.ids;
        n.ids.push_back(step.id);
        n.kv = kv_.fork(parent.kv);
        n.cumulative_logprob = step.cumulative_logprob;
    }
    for (Sequence* s : beams) kv_.release(s->kv);
    for (size_t i = steps.size(); i < beams.size(); ++i) drop(*beams[i]);
    for (size_t i = 0; i < steps.size(); ++i) {
        Sequence& s = i < beams.size() ? *beams[i] : fork(*beams[0], static_cast<int>(i));
        if (i >= beams.size()) kv_.release(s.kv);
        s.ids = std::move(next[i].ids);
        s.kv = std::move(next[i].kv);
        s.cumulative_logprob = next[i].cumulative_logprob;
        s.likeliest.clear();
        ++totals_.n_generated;
    }
    if (beams[0]->n_generated() > 1) return;
    const auto now = Sequence::Clock::now();
    for (Sequence* s : beams_of(*beams[0]->beams)) s->first_token = now;
}

void StepLoop::finish_beams(Sequence& s, FinishReason reason, const std::string& error, Failure failure) {
    const std::shared_ptr<BeamGroup> group = s.beams;
    const std::shared_ptr<const Request> request = s.request;
    const std::vector<Sequence*> beams = beams_of(*group);
    FinishEvent event =
        finish_event(*beams[0], reason == FinishReason::stop_id ? FinishReason::length : reason);
    event.error = error;
    event.failure = failure;
    const bool found = reason != FinishReason::error && reason != FinishReason::cancelled;
    const std::vector<BeamGroup::Text> texts =
        found ? group->finish(views(beams), *request) : std::vector<BeamGroup::Text>();
    for (Sequence* b : beams) drop(*b);
    for (event.index = 0; event.index < request->n; ++event.index) {
        FinishEvent end = event;
        if (static_cast<size_t>(event.index) < texts.size()) {
            const BeamGroup::Text& text = texts[static_cast<size_t>(event.index)];
            for (const int32_t id : text.answer) {
                emit(request, TokenEvent{.request = event.request, .index = event.index, .id = id});
            }
            end.n_generated = static_cast<int>(text.answer.size()) + (text.stop_id >= 0);
            end.stop_id = text.stop_id;
            end.cumulative_logprob = text.cumulative_logprob;
            end.reason = text.stop_id >= 0 ? FinishReason::stop_id : event.reason;
        } else if (found) {
            end.reason = FinishReason::error;
            end.failure = Failure::numbers;
            end.error = "beam search found fewer texts";
        }
        emit(request, end);
    }
}

}  // namespace smelt
