// A step of beam search.
#include "engine/beam_group.h"

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

double score(double cumulative_logprob, size_t n_tokens, const BeamSearch& search) {
    return cumulative_logprob / std::pow(static_cast<double>(std::max<size_t>(n_tokens, 1)),
                                         static_cast<double>(search.length_penalty));
}

}  // namespace

void BeamGroup::add(Text text, const BeamSearch& search) {
    const auto better = [](const Text& a, const Text& b) { return a.score > b.score; };
    ended_.insert(std::ranges::upper_bound(ended_, text, better), std::move(text));
    if (ended_.size() > static_cast<size_t>(search.width)) ended_.pop_back();
}

std::vector<BeamGroup::Step> BeamGroup::advance(std::span<const Beam> beams, const Request& r,
                                                int max_tokens) {
    const auto width = static_cast<size_t>(r.beams.width);
    std::vector<Step> all;
    for (size_t b = 0; b < beams.size(); ++b) {
        for (const TokenLogprob& t : beams[b].likeliest) {
            all.push_back({b, t.id, beams[b].cumulative_logprob + static_cast<double>(t.logprob)});
        }
    }
    // Ties go to the earlier beam and the smaller id, so that the same request has the same answer.
    std::ranges::stable_sort(all, std::greater(), &Step::cumulative_logprob);
    if (all.size() > 2 * width) all.resize(2 * width);
    const size_t length = beams[0].answer.size() + 1;
    std::vector<Step> next;
    for (size_t rank = 0; rank < all.size() && next.size() < width; ++rank) {
        const Step& s = all[rank];
        if (std::ranges::find(r.stop_ids, s.id) == r.stop_ids.end()) {
            next.push_back(s);
        } else if (rank < width) {
            const auto answer = beams[s.beam].answer;
            add({.answer = {answer.begin(), answer.end()},
                 .stop_id = s.id,
                 .cumulative_logprob = s.cumulative_logprob,
                 .score = score(s.cumulative_logprob, length, r.beams)},
                r.beams);
        }
    }
    if (ended_.size() == width && !all.empty()) {
        using Stop = BeamSearch::Stop;
        const bool at_last = r.beams.stop == Stop::never && r.beams.length_penalty > 0;
        const double best =
            score(all[0].cumulative_logprob, at_last ? static_cast<size_t>(max_tokens) : length, r.beams);
        over_ = r.beams.stop == Stop::when_full || ended_.back().score >= best;
    }
    if (over_) next.clear();
    return next;
}

std::vector<BeamGroup::Text> BeamGroup::finish(std::span<const Beam> beams, const Request& r) {
    for (const Beam& b : beams) {
        if (over_) break;
        add({.answer = {b.answer.begin(), b.answer.end()},
             .cumulative_logprob = b.cumulative_logprob,
             .score = score(b.cumulative_logprob, b.answer.size(), r.beams)},
            r.beams);
    }
    ended_.resize(std::min(ended_.size(), static_cast<size_t>(r.n)));
    return std::move(ended_);
}

}  // namespace smelt
