// The stages of sampling. Bias, penalties and bans change few logits in place (and are undone); the others
// shrink a list of candidates.
#include "sampling/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/splitmix.h"

namespace smelt {

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float greedy_below = 1e-5f;  // temperature; smaller ones overflow the division and mean greedy

// The part of `logits` that stands for block `w` of 64 ids, and -inf for those that are not in the word.
void copy_allowed(const float* from, uint64_t word, size_t n, float* to) {
    if (word == 0) {
        std::fill_n(to, n, -inf);
    } else if (word == ~uint64_t{0}) {
        std::copy_n(from, n, to);
    } else {
        for (size_t i = 0; i < n; ++i) to[i] = ((word >> i) & 1) != 0 ? from[i] : -inf;
    }
}

// The logit of a token that was seen before.
float penalised(float x, const SamplingParams& p, int n_generated) {
    x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
    x -= static_cast<float>(n_generated) * p.frequency_penalty;
    return n_generated > 0 ? x - p.presence_penalty : x;
}

bool is_greedy(const SamplingParams& p) {
    return p.temperature < greedy_below || p.top_k == 1;
}

// Of the first in order that have this mass together, the last one. Quickselect by mass; the list is
// reordered.
template <class Entry, class Order>
Entry last_of_mass(std::vector<Entry>& entries, double mass, Order comes_before) {
    auto first = entries.begin(), end = entries.end();
    while (end - first > 1) {
        const auto middle = first + (end - first) / 2;
        std::nth_element(first, middle, end, comes_before);
        double before = 0;
        for (auto e = first; e != middle; ++e) before += static_cast<double>(e->weight);
        if (before >= mass) {
            end = middle;
        } else {
            mass -= before;
            first = middle;
        }
    }
    return *first;
}

}  // namespace

uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
    constexpr uint64_t golden = 0x9e3779b97f4a7c15u;
    return splitmix_finalise(splitmix_finalise(splitmix_finalise(seed + golden) + (stream + 1) * golden) +
                             (counter + 1) * golden);
}

bool has_penalties(const SamplingParams& p) {
    return p.repetition_penalty != 1 || p.presence_penalty != 0 || p.frequency_penalty != 0;
}

bool fits_draw_row(const SamplingParams& p) {
    return p.dry_multiplier <= 0 && p.top_n_sigma <= 0 && p.typical_p >= 1 && p.xtc_probability <= 0;
}

const char* to_string(DrawProblem problem) {
    switch (problem) {
        case DrawProblem::none:
            return "";
        case DrawProblem::nan:
            return "logits contain NaN";
        case DrawProblem::infinite:
            return "logits contain infinity";
        case DrawProblem::all_minus_infinity:
            return "all logits are -infinity";
        case DrawProblem::all_banned:
            return "every token is banned";
        case DrawProblem::infinite_after_edits:
            return "logits contain infinity after penalties";
        case DrawProblem::memory:
            return "too little memory to draw a token";
    }
    return "no token was drawn";
}

void TokenCounts::add(std::span<const int32_t> ids, size_t at, int n_prompt, int amount) {
    Count& c = counts_[ids[at]];
    c.seen += amount;
    if (at >= static_cast<size_t>(n_prompt)) c.generated += amount;
    if (c.seen == 0) counts_.erase(ids[at]);
}

void TokenCounts::update(std::span<const int32_t> ids, int n_prompt, int last_n) {
    const size_t window = last_n < 0 ? ids.size() : static_cast<size_t>(last_n);
    for (; end_ < ids.size(); ++end_) add(ids, end_, n_prompt, 1);
    for (; end_ - first_ > window; ++first_) add(ids, first_, n_prompt, -1);
}

void TokenCounts::rewind(std::span<const int32_t> ids, size_t n, int n_prompt, int last_n) {
    if (end_ <= n) return;
    for (; end_ > std::max(n, first_); --end_) add(ids, end_ - 1, n_prompt, -1);
    first_ = std::min(first_, n);
    end_ = n;
    const size_t window = last_n < 0 ? n : std::min(n, static_cast<size_t>(last_n));
    for (; first_ > n - window; --first_) add(ids, first_ - 1, n_prompt, 1);
}

// Looks at the raw row: a problem ends all; else log_sum_ is known where it is wanted.
DrawProblem Sampler::begin(std::span<const float> logits, bool wants_log_sum) {
    scan_.scan(logits);
    if (scan_.has_nan()) return DrawProblem::nan;
    if (scan_.largest() == inf) return DrawProblem::infinite;
    if (scan_.largest() == -inf) return DrawProblem::all_minus_infinity;
    if (wants_log_sum) log_sum_ = static_cast<double>(scan_.largest()) + std::log(scan_.weigh(1));
    return DrawProblem::none;
}

Drawn Sampler::begin_top(std::span<const float> logits, int n_logprobs) {
    if (const DrawProblem p = begin(logits, n_logprobs >= 0); p != DrawProblem::none)
        return {.problem = to_string(p)};
    Drawn drawn;
    if (n_logprobs > 0) {
        scan_.take_top_k(n_logprobs, candidates_);
        for (const Candidate& c : candidates_) {
            drawn.top.push_back({c.id, static_cast<float>(static_cast<double>(c.logit) - log_sum_)});
        }
    }
    return drawn;
}

Drawn Sampler::score(std::span<const float> logits, int32_t id, int n_logprobs) {
    Drawn drawn = begin_top(logits, n_logprobs);
    if (drawn.problem != nullptr) return drawn;
    drawn.id = id;
    drawn.logprob = static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_sum_);
    return drawn;
}

Drawn Sampler::draw(std::span<float> logits, const SamplingParams& p, const DrawOptions& o) {
    Drawn drawn = begin_top(logits, o.n_logprobs);
    if (drawn.problem != nullptr) return drawn;

    const std::span<float> row = o.allowed.empty() ? logits : keep_allowed(logits, o.allowed);
    apply_bias_penalties_bans(row, p, o);
    const DrawProblem problem = choose_checked(row, p, o.random, drawn.id);
    restore(row);
    if (problem != DrawProblem::none) {
        drawn.id = -1;
        drawn.problem = to_string(problem);
    } else if (o.n_logprobs >= 0) {
        drawn.logprob =
            static_cast<float>(static_cast<double>(logits[static_cast<size_t>(drawn.id)]) - log_sum_);
    }
    return drawn;
}

int32_t Sampler::draw(std::span<float> logits, const DrawRow& r, std::span<const LogitEdit> edits,
                      std::span<const uint64_t> mask, float& logprob, float* log_sum) {
    if (const DrawProblem p = begin(logits, r.logprob != 0); p != DrawProblem::none)
        return static_cast<int32_t>(p);
    SamplingParams p;
    p.temperature = r.temperature;
    p.top_k = r.top_k;
    p.top_p = r.top_p;
    p.min_p = r.min_p;
    p.repetition_penalty = r.repetition_penalty;
    p.presence_penalty = r.presence_penalty;
    p.frequency_penalty = r.frequency_penalty;
    const std::span<float> row = r.masked == 0 ? logits : keep_allowed(logits, mask);
    for (const LogitEdit& e : edits) {
        float x = row[static_cast<size_t>(e.id)] + e.bias;
        if (e.seen != 0) x = penalised(x, p, e.n_generated);
        change(row, e.id, e.banned != 0 ? -inf : x);
    }
    rescan(row);
    int32_t id = -1;
    const uint64_t random = (uint64_t{r.random[1]} << 32) | r.random[0];
    const DrawProblem problem = choose_checked(row, p, random, id);
    restore(row);
    if (problem != DrawProblem::none) return static_cast<int32_t>(problem);
    if (r.logprob != 0) {
        log_sum[0] = static_cast<float>(log_sum_);
        log_sum[1] = static_cast<float>(log_sum_ - static_cast<double>(log_sum[0]));
        logprob = static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_sum_);
    }
    return id;
}

DrawProblem Sampler::choose_checked(std::span<const float> logits, const SamplingParams& p, uint64_t random,
                                    int32_t& id) {
    if (scan_.largest() == -inf) return DrawProblem::all_banned;
    if (scan_.largest() == inf) return DrawProblem::infinite_after_edits;
    id = choose(logits, p, random);
    return DrawProblem::none;
}

void Sampler::restore(std::span<float> logits) {
    for (; !changed_.empty(); changed_.pop_back(), before_.pop_back()) {
        logits[static_cast<size_t>(changed_.back())] = before_.back();
    }
}

void Sampler::rescan(std::span<const float> logits) {
    if (changed_.size() > logits.size() / VocabScan::block_len) {
        scan_.scan(logits);
    } else {
        scan_.rescan(changed_);
    }
}

std::span<float> Sampler::keep_allowed(std::span<const float> logits, std::span<const uint64_t> allowed) {
    masked_.resize(logits.size());
    for (size_t first = 0; first < logits.size(); first += 64) {
        const uint64_t word = first / 64 < allowed.size() ? allowed[first / 64] : 0;
        copy_allowed(&logits[first], word, std::min<size_t>(64, logits.size() - first), &masked_[first]);
    }
    scan_.scan(masked_);
    return masked_;
}

void Sampler::change(std::span<float> logits, int32_t id, float value) {
    float& logit = logits[static_cast<size_t>(id)];
    changed_.push_back(id);
    before_.push_back(logit);
    logit = value;
}

void Sampler::apply_bias_penalties_bans(std::span<float> logits, const SamplingParams& p,
                                        const DrawOptions& o) {
    for (const auto& [id, bias] : p.logit_bias) change(logits, id, logits[static_cast<size_t>(id)] + bias);
    if (o.counts != nullptr) {
        for (const auto& [id, count] : o.counts->counts()) {
            if (static_cast<size_t>(id) >= logits.size()) continue;  // a picture's place
            change(logits, id, penalised(logits[static_cast<size_t>(id)], p, count.generated));
        }
    }
    if (p.dry_multiplier > 0) apply_dry(logits, p, o.ids);
    for (const int32_t id : o.banned) change(logits, id, -inf);
    rescan(logits);
}

// How far the end of the text is what stood before another token: matches_[i] for the token behind i + 1
// others from the end. Each match is extended from what is known of those before, so that the whole is
// linear.
void Sampler::apply_dry(std::span<float> logits, const SamplingParams& p, std::span<const int32_t> ids) {
    const size_t window = p.dry_last_n < 0 ? ids.size() : static_cast<size_t>(p.dry_last_n);
    const auto n = static_cast<int>(std::min(ids.size(), window));
    const auto from_end = [&](int i) { return ids[ids.size() - 1 - static_cast<size_t>(i)]; };
    int longest = 0;  // no repetition goes across a breaker
    while (longest < n && !std::ranges::binary_search(p.dry_breakers, from_end(longest))) ++longest;
    if (longest < p.dry_allowed_length) return;
    // The Z function of the text read from its end.
    matches_.assign(static_cast<size_t>(n), 0);
    for (int i = 1, left = 0, right = 0; i < n; ++i) {
        int& z = matches_[static_cast<size_t>(i)];
        if (i < right) z = std::min(right - i, matches_[static_cast<size_t>(i - left)]);
        while (i + z < n && from_end(z) == from_end(i + z)) ++z;
        if (i + z > right) {
            left = i;
            right = i + z;
        }
    }
    std::unordered_map<int32_t, int> repeated;  // by the token that would lengthen it
    for (int i = 1; i < n; ++i) {
        const int length = std::min(matches_[static_cast<size_t>(i)], longest);
        if (length < p.dry_allowed_length) continue;
        int& known = repeated[from_end(i - 1)];
        known = std::max(known, length);
    }
    constexpr float most = 1e6f;  // beyond any logit, and finite
    for (const auto& [id, length] : repeated) {
        if (static_cast<size_t>(id) >= logits.size()) continue;  // a picture's place
        const float penalty =
            p.dry_multiplier * std::pow(p.dry_base, static_cast<float>(length - p.dry_allowed_length));
        change(logits, id, logits[static_cast<size_t>(id)] - std::min(penalty, most));
    }
}

int32_t Sampler::choose(std::span<const float> logits, const SamplingParams& p, uint64_t random) {
    if (is_greedy(p)) return scan_.argmax();
    const double uniform = static_cast<double>(random >> 11) * 0x1p-53;
    const float inverse_temperature = 1 / p.temperature;
    const bool has_top_k = p.top_k > 0 && p.top_k < scan_.vocab_size();
    const bool has_top_p = p.top_p < 1, has_typical = p.typical_p < 1;
    // A second draw, of which the first must not know.
    const bool excludes =
        p.xtc_probability > 0 && static_cast<double>(splitmix_finalise(random) >> 11) * 0x1p-53 <
                                     static_cast<double>(p.xtc_probability);
    if (!has_top_k && !has_top_p && !has_typical && !excludes && p.min_p <= 0 && p.top_n_sigma <= 0) {
        return scan_.find_mass(uniform * scan_.weigh(inverse_temperature));
    }

    double sum = 0;  // of the weights that the next stage is about
    if (has_top_p && !has_top_k && !has_typical && p.top_n_sigma <= 0) {
        sum = scan_.weigh(inverse_temperature);
        // Weights below rest / vocab_size make less than the rest together, so none of them is in the set.
        const double rest = (1 - static_cast<double>(p.top_p)) * sum;
        scan_.take_heavier(static_cast<float>(0.99 * rest / scan_.vocab_size()), candidates_);
    } else {
        collect(logits, p);
        sum = weigh_candidates(inverse_temperature);
    }
    if (has_typical) {
        keep_typical(static_cast<double>(p.typical_p) * sum, sum);
        sum = weigh_candidates(inverse_temperature);
    }
    if (has_top_p) keep_top_p(static_cast<double>(p.top_p) * sum);
    if (p.min_p > 0) {
        float largest = 0;
        for (const Candidate& c : candidates_) largest = std::max(largest, c.weight);
        std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < p.min_p * largest; });
    }
    if (excludes) exclude_top(p.xtc_threshold, weigh_candidates(inverse_temperature));
    return draw_candidate(uniform);
}

// What top-n-sigma and top-k leave; where neither is wanted, what min-p may leave, or all.
void Sampler::collect(std::span<const float> logits, const SamplingParams& p) {
    float bar = std::numeric_limits<float>::lowest();
    if (p.top_n_sigma > 0) {
        double n = 0, sum = 0, squares = 0;
        for (const float x : logits) {
            if (x == -inf) continue;
            const double from_top = static_cast<double>(x) - static_cast<double>(scan_.largest());
            n += 1;
            sum += from_top;
            squares += from_top * from_top;
        }
        const double mean = sum / n, deviation = std::sqrt(std::max(0.0, squares / n - mean * mean));
        bar = scan_.largest() - static_cast<float>(static_cast<double>(p.top_n_sigma) * deviation);
    }
    if (p.top_k > 0 && p.top_k < scan_.vocab_size()) {
        scan_.take_top_k(p.top_k, candidates_);
        std::erase_if(candidates_, [&](const Candidate& c) { return c.logit < bar; });
        return;
    }
    if (p.top_p >= 1 && p.typical_p >= 1 && p.min_p > 0) {
        // A little lower than the bar, which is applied to the weights.
        bar = std::max(bar, scan_.largest() + p.temperature * std::log(0.99f * p.min_p));
    }
    scan_.take_above(bar, candidates_);
}

double Sampler::weigh_candidates(float inverse_temperature) {
    double sum = 0;
    for (Candidate& c : candidates_) {
        c.weight = std::exp((c.logit - scan_.largest()) * inverse_temperature);
        sum += static_cast<double>(c.weight);
    }
    return sum;
}

// Keeps the tokens with this mass whose -log p is closest to the entropy; of equal ones the smaller ids.
void Sampler::keep_typical(double mass, double sum) {
    double entropy = 0;
    const double log_sum = std::log(sum);
    const auto information = [&](const Candidate& c) {
        return log_sum - std::log(static_cast<double>(c.weight));
    };
    for (const Candidate& c : candidates_) {
        if (c.weight > 0) entropy += static_cast<double>(c.weight) / sum * information(c);
    }
    typical_.clear();
    for (const Candidate& c : candidates_) {
        if (c.weight > 0) typical_.push_back({std::fabs(information(c) - entropy), c.id, c.weight});
    }
    const auto closer = [](const Typical& a, const Typical& b) {
        return a.distance < b.distance || (a.distance == b.distance && a.id < b.id);
    };
    std::erase_if(candidates_, [&, last = last_of_mass(typical_, mass, closer)](const Candidate& c) {
        return !(c.weight > 0) || closer(last, {std::fabs(information(c) - entropy), c.id, c.weight});
    });
}

// Of the tokens with at least this probability, keeps the least likely.
void Sampler::exclude_top(float threshold, double sum) {
    const Candidate* last = nullptr;
    for (const Candidate& c : candidates_) {
        if (static_cast<double>(c.weight) < static_cast<double>(threshold) * sum) continue;
        if (last == nullptr || ranks_before(*last, c)) last = &c;
    }
    if (last == nullptr) return;
    std::erase_if(candidates_, [kept = *last](const Candidate& c) { return ranks_before(c, kept); });
}

// Keeps the first in rank that have this mass together, and the order of the list.
void Sampler::keep_top_p(double mass) {
    ranked_ = candidates_;
    std::erase_if(candidates_, [last = last_of_mass(ranked_, mass, ranks_before)](const Candidate& c) {
        return ranks_before(last, c);
    });
}

int32_t Sampler::draw_candidate(double uniform) const {
    double sum = 0;
    for (const Candidate& c : candidates_) sum += static_cast<double>(c.weight);
    double mass = uniform * sum;
    for (const Candidate& c : candidates_) {
        mass -= static_cast<double>(c.weight);
        if (mass < 0) return c.id;
    }
    return scan_.argmax();  // rounding left nothing
}

}  // namespace smelt
