// The stages of sampling. Bias, penalties and bans change few logits in place (and are undone); the others
// shrink a list of candidates.
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace smelt {

namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float greedy_below = 1e-5f;  // temperature; smaller ones overflow the division and mean greedy

uint64_t mix(uint64_t x) {  // finaliser of splitmix64
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

bool is_greedy(const SamplingParams& p) {
    return p.temperature < greedy_below || p.top_k == 1;
}

}  // namespace

uint64_t random_bits(uint64_t seed, uint64_t stream, uint64_t counter) {
    constexpr uint64_t golden = 0x9e3779b97f4a7c15u;
    return mix(mix(mix(seed + golden) + (stream + 1) * golden) + (counter + 1) * golden);
}

std::string check_sampling(const SamplingParams& p, int vocab_size) {
    struct Range {
        const char* name;
        float value, min, max;
    };
    // Beyond these limits a float logit overflows or the parameter has no effect that a smaller one has not.
    for (const Range& r :
         {Range{"temperature", p.temperature, 0, 100}, Range{"top_p", p.top_p, 0, 1},
          Range{"min_p", p.min_p, 0, 1}, Range{"repetition_penalty", p.repetition_penalty, 0.01f, 100},
          Range{"presence_penalty", p.presence_penalty, -100, 100},
          Range{"frequency_penalty", p.frequency_penalty, -100, 100}}) {
        if (!(r.value >= r.min && r.value <= r.max)) {
            return fmt::format("{}: expected {} to {}, found {}", r.name, r.min, r.max, r.value);
        }
    }
    if (p.top_k < 0) return fmt::format("top_k: expected 0 (off) or more, found {}", p.top_k);
    if (p.penalty_last_n < -1) {
        return fmt::format("penalty_last_n: expected -1 (all) or more, found {}", p.penalty_last_n);
    }
    for (const auto& [id, bias] : p.logit_bias) {
        if (id < 0 || id >= vocab_size) {
            return fmt::format("logit_bias: expected ids 0 to {}, found {}", vocab_size - 1, id);
        }
        if (!(std::fabs(bias) <= 1e6f)) {
            return fmt::format("logit_bias of {}: expected -1e6 to 1e6, found {}", id, bias);
        }
    }
    return "";
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

// What is to be said before anything is drawn: a problem, or the likeliest tokens.
Drawn Sampler::begin(std::span<const float> logits, int n_logprobs) {
    scan_.scan(logits);
    if (scan_.has_nan()) return {.problem = "logits contain NaN"};
    if (scan_.largest() == inf) return {.problem = "logits contain infinity"};
    if (scan_.largest() == -inf) return {.problem = "all logits are -infinity"};

    Drawn drawn;
    if (n_logprobs >= 0) log_sum_ = static_cast<double>(scan_.largest()) + std::log(scan_.weigh(1));
    if (n_logprobs > 0) {
        scan_.take_top_k(n_logprobs, candidates_);
        for (const Candidate& c : candidates_) {
            drawn.top.push_back({c.id, static_cast<float>(static_cast<double>(c.logit) - log_sum_)});
        }
    }
    return drawn;
}

Drawn Sampler::score(std::span<const float> logits, int32_t id, int n_logprobs) {
    Drawn drawn = begin(logits, n_logprobs);
    if (drawn.problem != nullptr) return drawn;
    drawn.id = id;
    drawn.logprob = static_cast<float>(static_cast<double>(logits[static_cast<size_t>(id)]) - log_sum_);
    return drawn;
}

Drawn Sampler::draw(std::span<float> logits, const SamplingParams& p, const DrawOptions& o) {
    Drawn drawn = begin(logits, o.n_logprobs);
    if (drawn.problem != nullptr) return drawn;

    apply_bias_penalties_bans(logits, p, o);
    if (scan_.largest() == -inf) {
        drawn.problem = "every token is banned";
    } else if (scan_.largest() == inf) {
        drawn.problem = "logits contain infinity after penalties";
    } else {
        drawn.id = choose(p, static_cast<double>(o.random >> 11) * 0x1p-53);
    }
    for (; !changed_.empty(); changed_.pop_back(), before_.pop_back()) {
        logits[static_cast<size_t>(changed_.back())] = before_.back();
    }
    if (drawn.id >= 0 && o.n_logprobs >= 0) {
        drawn.logprob =
            static_cast<float>(static_cast<double>(logits[static_cast<size_t>(drawn.id)]) - log_sum_);
    }
    return drawn;
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
            float x = logits[static_cast<size_t>(id)];
            x = x > 0 ? x / p.repetition_penalty : x * p.repetition_penalty;
            x -= static_cast<float>(count.generated) * p.frequency_penalty;
            if (count.generated > 0) x -= p.presence_penalty;
            change(logits, id, x);
        }
    }
    for (const int32_t id : o.banned) change(logits, id, -inf);
    if (changed_.size() > logits.size() / VocabScan::block_len) {
        scan_.scan(logits);
    } else {
        scan_.rescan(changed_);
    }
}

int32_t Sampler::choose(const SamplingParams& p, double uniform) {
    if (is_greedy(p)) return scan_.argmax();
    const float inverse_temperature = 1 / p.temperature;
    const bool has_top_k = p.top_k > 0 && p.top_k < scan_.vocab_size();
    const bool has_top_p = p.top_p < 1;
    if (!has_top_k && !has_top_p && p.min_p <= 0) {
        return scan_.find_mass(uniform * scan_.weigh(inverse_temperature));
    }

    double sum = 0;  // of the weights that top-p is about
    if (has_top_p && !has_top_k) {
        sum = scan_.weigh(inverse_temperature);
        // Weights below rest / vocab_size make less than the rest together, so none of them is in the set.
        const double rest = (1 - static_cast<double>(p.top_p)) * sum;
        scan_.take_heavier(static_cast<float>(0.99 * rest / scan_.vocab_size()), candidates_);
    } else {
        if (has_top_k) {
            scan_.take_top_k(p.top_k, candidates_);
        } else {
            // A little lower than the bar, which is applied to the weights below.
            scan_.take_above(scan_.largest() + p.temperature * std::log(0.99f * p.min_p), candidates_);
        }
        for (Candidate& c : candidates_) {
            c.weight = std::exp((c.logit - scan_.largest()) * inverse_temperature);
            sum += static_cast<double>(c.weight);
        }
    }
    if (has_top_p) keep_top_p(static_cast<double>(p.top_p) * sum);
    std::erase_if(candidates_, [&](const Candidate& c) { return c.weight < p.min_p; });
    return draw_candidate(uniform);
}

// Keeps the first in rank that have this mass together, and the order of the list.
void Sampler::keep_top_p(double mass) {
    // Quickselect by mass: the last one kept is in ranked_[first, end).
    ranked_ = candidates_;
    auto first = ranked_.begin(), end = ranked_.end();
    while (end - first > 1) {
        const auto middle = first + (end - first) / 2;
        std::nth_element(first, middle, end, ranks_before);
        double before = 0;
        for (auto c = first; c != middle; ++c) before += static_cast<double>(c->weight);
        if (before >= mass) {
            end = middle;
        } else {
            mass -= before;
            first = middle;
        }
    }
    std::erase_if(candidates_, [last = *first](const Candidate& c) { return ranks_before(last, c); });
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
