// Of all drafts those are verified for which tokens per second are most.
#include "engine/draft_policy.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace smelt {

namespace {

// In steps without drafts: what may be lost at first, what every step earns, and what is kept at most.
constexpr double first_credit = 2, earned = 0.01, most_credit = 16;
constexpr double least_gain = 1.03;       // of the rate, or it is not worth the trouble
constexpr int plain_every = 64;           // the time without drafts is measured again
constexpr int model_every = 64;           // a draft model that did not pay is tried again
constexpr int64_t stale = 256;            // steps after which a time is doubted
constexpr double row_guess = 0.02;        // what a further row takes of a step, before it is known
constexpr double memory_of_times = 0.85;  // of the moving average
constexpr float memory = 0.95f, memory_of_all = 0.99f;
constexpr double weight_of_all = 2;  // tests that what is known of other sequences counts as

// Before anything is known.
constexpr double first_chance[] = {0.35, 0.6, 0.85, 0.3, 0.5, 0.8, 0.95};

constexpr size_t exact_rows = 16;

}  // namespace

DraftPolicy::DraftPolicy(const DraftOptions& options)
    : options_(options),
      times_(class_of(1 << 20) + 1),
      account_(first_credit),
      model_account_(first_credit) {}

// Each number of rows up to 16, then four classes for each power of two.
size_t DraftPolicy::class_of(int n_rows) {
    const auto n = static_cast<unsigned>(std::max(n_rows, 1));
    if (n <= exact_rows) return n - 1;
    const auto log = static_cast<unsigned>(std::bit_width(n - 1)) - 1;  // 2^log < n <= 2^(log + 1)
    return exact_rows + 4 * (log - 4) + (((n - 1) >> (log - 2)) & 3u);
}

// The most rows of the class.
int DraftPolicy::rows_of(size_t time_class) {
    if (time_class < exact_rows) return static_cast<int>(time_class) + 1;
    const size_t log = (time_class - exact_rows) / 4 + 4, quarter = (time_class - exact_rows) % 4;
    return static_cast<int>((size_t{1} << log) + (quarter + 1) * (size_t{1} << (log - 2)));
}

void DraftPolicy::see(DraftKind kind, bool accepted, Acceptances& own) {
    own[static_cast<size_t>(kind)].see(accepted, memory);
    all_[static_cast<size_t>(kind)].see(accepted, memory_of_all);
}

double DraftPolicy::chance(DraftKind kind, const Acceptances& own) const {
    const auto k = static_cast<size_t>(kind);
    const double of_all = (static_cast<double>(all_[k].n_accepted) + 2 * first_chance[k]) /
                          (static_cast<double>(all_[k].n_tested) + 2);
    const double p = (static_cast<double>(own[k].n_accepted) + weight_of_all * of_all) /
                     (static_cast<double>(own[k].n_tested) + weight_of_all);
    return std::min(p, 0.999);
}

double DraftPolicy::chance_of_model(const Acceptances& own) const {
    double tested = 4, accepted = 2.8;
    for (auto k = static_cast<size_t>(DraftKind::unsure); k < own.size(); ++k) {
        tested += static_cast<double>(own[k].n_tested + 0.1f * all_[k].n_tested);
        accepted += static_cast<double>(own[k].n_accepted + 0.1f * all_[k].n_accepted);
    }
    return accepted / tested;
}

void DraftPolicy::see_time(int n_rows, double seconds) {
    Time& t = times_[class_of(n_rows)];
    // The first one compiles the step.
    if (t.n_seen++ == 0) return;
    t.seen_at = n_steps_;
    if (t.n_seen == 2) {
        t.seconds = seconds;
        return;
    }
    // A step that was interrupted says little.
    const double seen = std::min(seconds, 3 * t.seconds);
    t.seconds = memory_of_times * t.seconds + (1 - memory_of_times) * seen;
}

double DraftPolicy::step_time(int n_rows) const {
    const size_t at = class_of(n_rows);
    if (times_[at].seconds > 0) return times_[at].seconds;
    size_t first = times_.size(), below = first, above = first;  // of the classes that are known
    for (size_t i = 0; i < times_.size() && above == times_.size(); ++i) {
        if (times_[i].seconds <= 0) continue;
        if (first == times_.size()) first = i;
        (i < at ? below : above) = i;
    }
    const auto seconds = [&](size_t i) { return times_[i].seconds; };
    if (below == times_.size()) return above == times_.size() ? 0 : seconds(above);
    const int n_more = n_rows - rows_of(below);
    if (above < times_.size()) {
        const double share = static_cast<double>(n_more) / (rows_of(above) - rows_of(below));
        return seconds(below) + std::clamp(share, 0.0, 1.0) * (seconds(above) - seconds(below));
    }
    // Further rows are thought to be cheaper than those that are known, or nobody would find out.
    double row = row_guess * seconds(below);
    if (first < below)
        row = std::max(row, 0.5 * (seconds(below) - seconds(first)) / (rows_of(below) - rows_of(first)));
    return seconds(below) + row * n_more;
}

// Twice the rows that were tried at most: a step of many that turns out slow costs much.
int DraftPolicy::most_rows(int n_seqs) const {
    int most = n_seqs + 2;
    for (size_t i = 0; i < times_.size(); ++i) {
        if (times_[i].seconds > 0) most = std::max(most, 2 * rows_of(i));
    }
    return most;
}

void DraftPolicy::saw_step(int n_seqs, int n_rows, int n_tokens, double seconds, double drafting,
                           int n_drafting) {
    ++n_steps_;
    if (n_drafting > 0) {
        const double each = drafting / n_drafting;
        draft_time_ = draft_time_ == 0 ? each : memory_of_times * draft_time_ + (1 - memory_of_times) * each;
    }
    const bool known = times_[class_of(n_rows)].n_seen > 0;
    const double guess = step_time(n_rows);
    see_time(n_rows, seconds);
    for (double* account : {&account_, &model_account_}) *account = std::min(*account + earned, most_credit);
    if (n_rows == n_seqs && n_drafting == 0) {
        n_since_plain_ = 0;
        ++n_since_drafted_;
        if (n_steps_ % stale != 0) return;
        // What has not been seen for long may have changed for the better.
        for (Time& t : times_) {
            if (t.seconds > seconds && n_steps_ - t.seen_at > stale) t.seconds -= 0.3 * (t.seconds - seconds);
        }
        return;
    }
    ++n_since_plain_;
    n_since_drafted_ = 0;
    const double plain = step_time(n_seqs);
    if (plain <= 0) return;
    // A step that is compiled first is slow once.
    const double spent = known ? seconds : std::min(seconds, 2 * guess);
    double& account = n_drafting > 0 ? model_account_ : account_;
    account += static_cast<double>(n_tokens) / n_seqs - (spent + drafting) / plain;
    account = std::min(account, most_credit);
}

bool DraftPolicy::may_draft(int n_seqs) const {
    if (options_.max <= 0) return false;
    if (!options_.adaptive) return true;
    return (account_ > 0 || model_account_ > 0) && n_since_plain_ < plain_every && step_time(n_seqs) > 0 &&
           times_[class_of(n_seqs)].seconds > 0;
}

int DraftPolicy::length_of_model_drafts(int n_seqs, std::span<const double> chances) const {
    if (!options_.adaptive) return options_.max;
    double best_rate = least_gain * n_seqs / step_time(n_seqs), expected = n_seqs;
    int best = 0;
    std::vector<double> reached(chances.size(), 1);
    const int room = (most_rows(n_seqs) - n_seqs) / static_cast<int>(std::max<size_t>(chances.size(), 1));
    for (int k = 1; k <= std::min(options_.max, std::max(room, 1)); ++k) {
        for (size_t s = 0; s < chances.size(); ++s) expected += reached[s] *= chances[s];
        const double t = step_time(n_seqs + k * static_cast<int>(chances.size())) + k * draft_time_;
        if (expected / t <= best_rate) continue;
        best_rate = expected / t;
        best = k;
    }
    return best == 0 && n_since_drafted_ >= model_every ? std::min(2, options_.max) : best;
}

// A right draft saves a step's time for its sequence; it takes a step of the draft model, and a row more.
double DraftPolicy::least_chance(int n_seqs) const {
    const double plain = step_time(n_seqs);
    if (!options_.adaptive || plain <= 0) return 0;
    return (draft_time_ + step_time(2 * n_seqs) - plain) / plain;
}

void DraftPolicy::choose(int n_seqs, std::span<const std::span<const double>> chances,
                         std::vector<int>& n_chosen) {
    n_chosen.assign(chances.size(), 0);
    candidates_.clear();
    for (size_t s = 0; s < chances.size(); ++s) {
        double reached = 1;
        for (const double chance : chances[s]) {
            candidates_.push_back({reached *= chance, static_cast<int>(s)});
        }
    }
    size_t best = candidates_.size();
    if (options_.adaptive) {
        std::ranges::stable_sort(candidates_, std::ranges::greater(), &Candidate::chance);
        double best_rate = least_gain * n_seqs / step_time(n_seqs), expected = n_seqs;
        best = 0;
        const auto room = static_cast<size_t>(std::max(most_rows(n_seqs) - n_seqs, 0));
        for (size_t i = 0; i < std::min(room, candidates_.size()); ++i) {
            expected += candidates_[i].chance;
            const double rate = expected / step_time(n_seqs + static_cast<int>(i) + 1);
            if (rate <= best_rate) continue;
            best_rate = rate;
            best = i + 1;
        }
    }
    for (size_t i = 0; i < best; ++i) ++n_chosen[static_cast<size_t>(candidates_[i].sequence)];
    for (int& n : n_chosen) {
        if (n < options_.min) n = 0;
    }
}

}  // namespace smelt
