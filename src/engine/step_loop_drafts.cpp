// The part of the step loop that is about speculative decoding: tokens are guessed, a step computes them as
// if they had been drawn, and each position draws as it would without. A guess that is what was drawn saved a
// step; what was computed after a wrong one is forgotten. So the text never depends on the guesses.
#include <algorithm>

#include "base/log.h"
#include "engine/step_loop.h"

namespace smelt {

namespace {

constexpr int most_asked = 64;  // drafts that a request may ask for

}  // namespace

bool StepLoop::may_have_drafts(const Sequence& s) const {
    const Request& r = *s.request;
    const bool any = draft_model_ || policy_.options().lookup || !r.prediction.empty();
    return any && s.forked && !s.beams && r.pooling == Pooling::none && s.ids.back() >= 0 &&
           s.kv.n_tokens >= s.n_prompt() && most_drafts(s) > 0 && !runner_.shape().keeps_states;
}

// All that are drafted must have a place, and one token comes after them.
int StepLoop::most_drafts(const Sequence& s) const {
    const Request& r = *s.request;
    int n = r.max_drafts < 0 ? policy_.options().max : std::min(r.max_drafts, most_asked);
    if (r.max_tokens >= 0) n = std::min(n, r.max_tokens - s.n_generated() - 1);
    return std::min(n, limits().max_tokens() - static_cast<int>(s.ids.size()) - 1);
}

// What came after the same words before, as proposed tokens.
void StepLoop::look_up(Sequence& s) {
    Drafting& d = s.drafting;
    d.proposed.clear();
    const Request& r = *s.request;
    if (!policy_.options().lookup && r.prediction.empty()) return;
    if (!d.lookup) d.lookup.emplace(r.prediction, policy_.options().min_match);
    d.lookup->update(s.ids, s.n_prompt());
    found_.clear();
    const int match = d.lookup->find(most_drafts(s), found_);
    const DraftKind kind = match < 4   ? DraftKind::short_match
                           : match < 8 ? DraftKind::match
                                       : DraftKind::long_match;
    for (const int32_t id : found_) {
        if (id >= runner_.shape().vocab_size) break;  // a picture's place
        d.proposed.push_back({id, kind});
    }
}

// Guesses for the planned answers, as far as they pay; the plan's parts grow by them.
void StepLoop::add_drafts(const StepPlan& plan, Flight& f) {
    const auto is_next = [](const StepPlan::Part& p) {
        return p.n_tokens == 1 && p.sequence->kv.n_tokens >= p.sequence->n_prompt() &&
               p.sequence->n_pending() == 1;
    };
    f.answers_only = std::ranges::all_of(plan.parts, is_next);
    with_drafts_.clear();
    for (const StepPlan::Part& part : plan.parts) {
        Sequence& s = *part.sequence;
        s.drafting.drafts.clear();
        if (s.ids.back() < 0) continue;  // launched ahead: what is proposed waits for its token
        s.drafting.proposed.clear();
        s.drafting.expects = false;
        if (!is_next(part) || !may_have_drafts(s)) continue;
        look_up(s);
        with_drafts_.push_back(&s);
    }
    const auto n_seqs = static_cast<int>(plan.parts.size());
    if (with_drafts_.empty() || n_under_way_ > 0 || !f.answers_only || !policy_.may_draft(n_seqs)) return;
    if (draft_model_ && policy_.may_use_model()) draft_by_model(n_seqs, f);
    if (f.n_draft_steps > 0 || policy_.may_look_up()) choose_drafts(n_seqs);
}

bool StepLoop::is_lookup_better(const Sequence& s, double chance_of_model) const {
    const Drafting& d = s.drafting;
    return !d.proposed.empty() && policy_.may_look_up() &&
           (!policy_.options().adaptive ||
            policy_.chance(d.proposed[0].kind, d.acceptances) >= chance_of_model);
}

// Where looking up found nothing, or what seems less likely.
void StepLoop::draft_by_model(int n_seqs, Flight& f) {
    std::vector<DraftModel::Job> jobs;
    std::vector<double> chances;
    for (Sequence* s : with_drafts_) {
        const int room = most_drafts(*s);
        const double chance = policy_.chance_of_model(s->drafting.acceptances);
        if (is_lookup_better(*s, chance) || !s->request->pictures.empty() ||
            !draft_model_->has_room(static_cast<int>(s->ids.size()) + room)) {
            continue;
        }
        jobs.push_back({s, room});
        chances.push_back(chance);
    }
    if (jobs.empty()) return;
    const int n = policy_.length_of_model_drafts(n_seqs, chances);
    if (n == 0) return;
    for (DraftModel::Job& job : jobs) job.n = std::min(job.n, n);
    const auto begin = Sequence::Clock::now();
    try {
        f.n_draft_steps =
            draft_model_->draft(jobs, policy_, [this](Batch& b, Sequence& s) { add_draw(b, s); });
    } catch (const std::exception& e) {
        // Answers need no drafts.
        spdlog::error("the draft model failed and is not used any more: {}", e.what());
        for (const auto& s : sequences_) draft_model_->release(*s);
        for (const DraftModel::Job& job : jobs) job.sequence->drafting.drafts.clear();
        draft_model_.reset();
    }
    f.draft_seconds = seconds(Sequence::Clock::now() - begin);
    for (const DraftModel::Job& job : jobs) {
        Drafting& d = job.sequence->drafting;
        // An id of the padding is none here.
        const auto end = std::ranges::find_if(
            d.drafts, [&](const Draft& draft) { return draft.id >= runner_.shape().vocab_size; });
        d.drafts.erase(end, d.drafts.end());
        if (!d.drafts.empty()) d.proposed.swap(d.drafts);
        d.drafts.clear();
    }
}

// Of what is proposed, the drafts that are worth a row.
void StepLoop::choose_drafts(int n_seqs) {
    chances_.resize(std::max(chances_.size(), with_drafts_.size()));
    chance_spans_.clear();
    for (size_t i = 0; i < with_drafts_.size(); ++i) {
        const Drafting& d = with_drafts_[i]->drafting;
        chances_[i].clear();
        for (const Draft& draft : d.proposed)
            chances_[i].push_back(policy_.chance(draft.kind, d.acceptances));
        chance_spans_.emplace_back(chances_[i]);
    }
    policy_.choose(n_seqs, chance_spans_, n_chosen_);
    for (size_t i = 0; i < with_drafts_.size(); ++i) {
        Drafting& d = with_drafts_[i]->drafting;
        const int n = n_chosen_[i] > 0 ? scheduler_.lengthen(with_drafts_[i], n_chosen_[i]) : 0;
        if (n == 0) continue;
        d.drafts.assign(d.proposed.begin(), d.proposed.begin() + n);
        d.proposed.clear();
    }
}

// The sequence's last token and its drafts, as far as the answer could go on by them.
void StepLoop::add_drafted(Batch& b, Flight::Part& part) {
    Sequence& s = *part.sequence;
    std::vector<Draft>& drafts = s.drafting.drafts;
    const int first_token = b.n_tokens();
    const auto begin = Sequence::Clock::now();
    const auto add_row = [&](int i) {
        b.logits_rows.push_back(first_token + i);
        b.draws.emplace_back();
        add_draw(b, s);
    };
    add_row(0);
    Ahead ahead(s);
    int n = 0;
    for (const Draft& draft : drafts) {
        const double spent = s.grammar ? grammar_spent_ + seconds(Sequence::Clock::now() - begin) : 0;
        if (spent > scheduler_.options().max_grammar || !ahead.push(draft.id)) break;
        add_row(++n);
    }
    drafts.resize(static_cast<size_t>(n));
    part.n_drafts = n;
    part.n_tokens = 1 + n;
    add_tokens(b, part);
    if (!s.grammar) return;
    const double spent = seconds(Sequence::Clock::now() - begin);
    grammar_spent_ += spent;
    s.grammar_seconds += spent;
}

// The rows of the drafts in order, as far as what was drawn is what was drafted.
void StepLoop::advance_drafted(Flight::Part& part) {
    Sequence& s = *part.sequence;
    drafts_.swap(s.drafting.drafts);
    s.drafting.drafts.clear();
    const int n = part.n_drafts;
    s.drafting.n_drafted += n;
    totals_.n_drafted += n;
    ++totals_.n_drafts;
    for (int i = 0;; ++i) {
        advance(s, static_cast<size_t>(part.first_row + i));
        if (part.sequence == nullptr) return;  // the answer has ended
        if (i == n) break;
        const Draft& draft = drafts_[static_cast<size_t>(i)];
        const bool right = s.ids.back() == draft.id;
        policy_.see(draft.kind, right, s.drafting.acceptances);
        if (!right) break;
        kv_.commit(s.kv, s.ids, 1);
        ++s.drafting.n_accepted;
        ++totals_.n_draft_accepted;
    }
    kv_.rewind(s.kv);
}

// What the step took and brought. Where steps are launched ahead, whether the next one is to wait.
void StepLoop::judge_drafts(const Flight& f, int64_t n_generated) {
    const auto now = Sequence::Clock::now();
    const double took = last_end_ == Sequence::Clock::time_point() ? 0 : seconds(now - last_end_);
    last_end_ = now;
    if (!f.answers_only || took <= 0) return;
    policy_.saw_step(f.batch.n_seqs(), f.batch.n_tokens(), static_cast<int>(n_generated),
                     std::max(took - f.draft_seconds, 0.0), f.draft_seconds, f.n_draft_steps);
    if (runner_.shape().max_steps == 1) return;
    const int n_seqs = f.batch.n_seqs();
    for (const Flight::Part& part : f.parts) {
        if (part.sequence != nullptr)
            part.sequence->drafting.expects = expects_drafts(*part.sequence, n_seqs);
    }
}

bool StepLoop::expects_drafts(Sequence& s, int n_seqs) {
    if (!may_have_drafts(s)) return false;
    look_up(s);
    if (!policy_.may_draft(n_seqs)) return false;
    Drafting& d = s.drafting;
    std::vector<double> chances;
    for (const Draft& draft : d.proposed) chances.push_back(policy_.chance(draft.kind, d.acceptances));
    if (chances.empty()) {
        const double chance = policy_.chance_of_model(d.acceptances);
        return draft_model_ && policy_.may_use_model() &&
               policy_.length_of_model_drafts(n_seqs, {&chance, 1}) > 0;
    }
    if (!policy_.may_look_up()) return false;
    const std::span<const double> all = chances;
    policy_.choose(n_seqs, {&all, 1}, n_chosen_);
    return n_chosen_[0] > 0;
}

}  // namespace smelt
