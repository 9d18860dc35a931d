// What a plan means for the device: tokens, places in the cache, how each answer's next token is drawn; and
// which answers go on before their token is known.
#include <algorithm>

#include "engine/step_loop.h"

namespace smelt {

namespace {

// More candidates than this are read from a whole row.
constexpr int most_top = 64;

}  // namespace

// Whether the step must bring whole rows of logits for the sequence's next token.
bool StepLoop::draws_on_host(const Sequence& s) const {
    const Request& r = *s.request;
    return s.beams || !fits_draw_row(r.sampling) || r.n_logprobs > most_top || (!s.forked && r.n > 1);
}

bool StepLoop::needs_mask(const StepPlan::Part& part) const {
    const Sequence& s = *part.sequence;
    if (!s.grammar || s.kv.n_tokens + part.n_tokens < static_cast<int>(s.ids.size())) return false;
    return !(s.thinking && s.thinking->forced(s.request->thinking) >= 0) && !s.grammar->must_end();
}

// Asks the grammars which tokens they allow, in the order of waiting, for as long as a step may take for it:
// the tokens of others do not wait for many that are slow.
void StepLoop::make_masks(const StepPlan& plan) {
    masked_.clear();
    for (const StepPlan::Part& part : plan.parts) {
        Sequence& s = *part.sequence;
        if (!needs_mask(part)) continue;
        if (s.mask_since < 0) s.mask_since = totals_.n_steps;
        masked_.push_back(&s);
    }
    std::ranges::sort(masked_, [](const Sequence* a, const Sequence* b) {
        return std::tie(a->mask_since, a->id, a->index) < std::tie(b->mask_since, b->id, b->index);
    });
    double& spent = grammar_spent_;
    spent = 0;
    for (Sequence* s : masked_) {
        if (spent > scheduler_.options().max_grammar) {
            scheduler_.put_off(s);
            continue;
        }
        const auto begin = Sequence::Clock::now();
        s->mask_failed = s->grammar->allowed().empty();
        s->mask_since = -1;
        const double t = seconds(Sequence::Clock::now() - begin);
        s->grammar_seconds += t;
        spent += t;
    }
}

// Whether the host has to see the sequence's next token before the one after it can be drawn.
bool StepLoop::needs_token(const Sequence& s) const {
    return draws_on_host(s) || s.grammar.has_value() || s.thinking.has_value() ||
           has_penalties(s.request->sampling);
}

// Whether the answer ends with the next token, whatever that is, or without one.
bool StepLoop::ends_anyway(const Sequence& s) const {
    const Request& r = *s.request;
    return r.pooling != Pooling::none || (r.max_tokens >= 0 && s.n_generated() + 1 >= r.max_tokens) ||
           static_cast<int>(s.ids.size()) + 1 >= limits().max_tokens();
}

// Gives each sequence that goes on after this step the token that the step draws, as the next step's input
// names it. False, and nothing changed, where one of them has to wait for its token: then all do, because a
// step without it would halve its speed.
bool StepLoop::expect_tokens(const Flight& f) {
    const auto goes_on = [&](const Flight::Part& p) {
        return p.sequence != nullptr && p.last && !ends_anyway(*p.sequence);
    };
    for (const Flight::Part& p : f.parts) {
        if (goes_on(p) && (needs_token(*p.sequence) || p.n_drafts > 0 || p.sequence->drafting.expects))
            return false;
    }
    for (const Flight::Part& p : f.parts) {
        if (goes_on(p)) p.sequence->ids.push_back(-1 - p.last_row);
    }
    return true;
}

void StepLoop::build_batch(const StepPlan& plan, Flight& f) {
    Batch& b = f.batch;
    b.mask_words = (runner_.shape().vocab_size + 63) / 64;
    for (const StepPlan::Part& part : plan.parts) {
        Sequence& s = *part.sequence;
        f.parts.push_back({.sequence = &s,
                           .first = s.kv.n_tokens,
                           .n_tokens = part.n_tokens,
                           .last = s.kv.n_tokens + part.n_tokens >= static_cast<int>(s.ids.size()),
                           .first_row = static_cast<int>(b.logits_rows.size()),
                           .first_hidden = static_cast<int>(b.hidden_rows.size())});
        if (s.drafting.drafts.empty()) {
            add_tokens(b, f.parts.back());
            add_rows(b, f.parts.back());
        } else {
            add_drafted(b, f.parts.back());
        }
        f.parts.back().last_row = static_cast<int>(b.logits_rows.size()) - 1;
    }
}

// The part's tokens and their places in the cache.
void StepLoop::add_tokens(Batch& b, const Flight::Part& part) {
    Sequence& s = *part.sequence;
    window_blocks_.clear();
    for (size_t i = 0; kv_.has_windows() && i < s.kv.blocks.size(); ++i) {
        window_blocks_.push_back(kv_.part_of(s.kv, i));
    }
    b.add_sequence(
        std::span(s.ids).subspan(static_cast<size_t>(part.first), static_cast<size_t>(part.n_tokens)),
        part.first, s.kv.blocks, kv_.block_len(), window_blocks_);
    const std::vector<AdapterUse>& adapters = s.request->adapters;
    for (size_t i = 0; i < adapters.size(); ++i) {
        b.adapters.push_back({.first = b.n_tokens() - part.n_tokens,
                              .end = b.n_tokens(),
                              .i = static_cast<int32_t>(i),
                              .number = adapters[i].adapter->number,
                              .scale = adapters[i].scale});
    }
    if (!s.rope_positions.empty()) add_pictures(b, s, part.first, part.first + part.n_tokens);
    if (part.first >= s.n_prompt()) b.n_generated = b.n_tokens();
}

// The rows that are wanted of them.
void StepLoop::add_rows(Batch& b, const Flight::Part& part) {
    Sequence& s = *part.sequence;
    const int first_token = b.n_tokens() - part.n_tokens;
    for (int pos = part.first; pos < part.first + part.n_tokens; ++pos) {
        if (s.pools(pos)) b.hidden_rows.push_back(first_token + pos - part.first);
        if (!s.wants_logits(pos)) continue;
        b.logits_rows.push_back(first_token + pos - part.first);
        b.all_logits = b.all_logits || s.scores(pos);
        b.draws.emplace_back();
        if (pos + 1 == static_cast<int>(s.ids.size())) add_draw(b, s);
    }
}

// What the sequence's tokens [first, end), the last of the batch, have of its pictures.
void StepLoop::add_pictures(Batch& b, Sequence& s, int first, int end) const {
    const int first_token = b.n_tokens() - (end - first);
    for (int t = first; t < end; ++t) b.set_rope_position(first_token + t - first, s.rope_positions.at(t));
    const std::vector<Picture>& pictures = s.request->pictures;
    for (size_t i = 0; i < pictures.size(); ++i) {
        const Picture& p = pictures[i];
        for (int t = std::max(first, p.first); t < std::min(end, p.end()); ++t)
            b.set_features(first_token + t - first, s.features[i]->row(t - p.first));
    }
    if (end >= pictures.back().end()) s.features.clear();  // copied; a preempted sequence asks again
}

// How the token after the sequence's last one is drawn, into the batch's last row.
void StepLoop::add_draw(Batch& b, Sequence& s) {
    const Request& r = *s.request;
    const SamplingParams& p = r.sampling;
    DrawRow& row = b.draws.back();
    const bool on_host = draws_on_host(s);
    b.all_logits = b.all_logits || on_host;
    row.draws = on_host ? 0 : 1;
    if (has_penalties(p)) s.counts.update(s.ids, s.n_prompt(), p.penalty_last_n);

    const int32_t forced = s.thinking ? s.thinking->forced(r.thinking) : -1;
    const bool may_stop = !r.ignore_eos && s.n_generated() >= r.min_tokens;
    if (forced >= 0) {
        row.masked = 1;
        b.masks.resize(b.draws.size() * static_cast<size_t>(b.mask_words));
        b.masks[(b.draws.size() - 1) * static_cast<size_t>(b.mask_words) + static_cast<size_t>(forced) / 64] =
            uint64_t{1} << (forced % 64);
    } else if (s.grammar && !s.grammar->must_end()) {
        if (!s.mask_failed) add_mask(b, s, may_stop);
        row.masked = s.mask_failed ? 0 : 1;
    }
    if (on_host) return;

    row.temperature = p.temperature;
    row.top_k = p.top_k;
    row.top_p = p.top_p;
    row.min_p = p.min_p;
    row.repetition_penalty = p.repetition_penalty;
    row.presence_penalty = p.presence_penalty;
    row.frequency_penalty = p.frequency_penalty;
    row.logprob = r.n_logprobs >= 0 ? 1 : 0;
    const uint64_t random =
        random_bits(s.seed, static_cast<uint64_t>(s.index), static_cast<uint64_t>(s.n_generated()));
    row.random[0] = static_cast<uint32_t>(random);
    row.random[1] = static_cast<uint32_t>(random >> 32);
    b.n_top = std::max(b.n_top, r.n_logprobs);

    row.first_edit = static_cast<int32_t>(b.edits.size());
    for (const auto& [id, bias] : p.logit_bias) b.edits.push_back({.id = id, .bias = bias});
    if (has_penalties(p)) {
        for (const auto& [id, count] : s.counts.counts()) {
            if (id >= runner_.shape().vocab_size) continue;  // a picture's place
            b.edits.push_back({.id = id, .n_generated = count.generated, .seen = 1});
        }
    }
    if (!may_stop && forced < 0) {
        for (const int32_t id : r.stop_ids) b.edits.push_back({.id = id, .banned = 1});
    }
    row.n_edits = static_cast<int32_t>(b.edits.size()) - row.first_edit;
}

// Which tokens the grammar allows, as the mask of the batch's last row.
void StepLoop::add_mask(Batch& b, Sequence& s, bool may_stop) {
    const std::span<const uint64_t> allowed = s.grammar->allowed();  // kept since make_masks()
    const auto words = static_cast<size_t>(b.mask_words);
    b.masks.resize(b.draws.size() * words);
    const std::span<uint64_t> mask = std::span(b.masks).last(words);
    std::ranges::copy(allowed.first(std::min(allowed.size(), words)), mask.begin());
    const bool ends = may_stop && s.grammar->may_end();
    for (const int32_t id : s.request->stop_ids) {
        uint64_t& word = mask[static_cast<size_t>(id) / 64];
        const uint64_t bit = uint64_t{1} << (id % 64);
        word = ends ? word | bit : word & ~bit;
    }
}

}  // namespace smelt
