// What compiling one grammar may still cost, all its parts together: work, time, and whether anybody waits
// for it. Every loop over what a client wrote spends from it. One per compile_grammar(); never shared.
#pragma once

#include <algorithm>

#include "grammar/refused.h"

namespace smelt::grammar {

class Budget {
 public:
    explicit Budget(const GrammarOptions& options)
        : limits_(options.limits),
          effort_(options.effort),
          deadline_(Clock::now() + options.effort.max_time) {}
    Budget(const Budget&) = delete;
    Budget& operator=(const Budget&) = delete;

    const GrammarLimits& limits() const { return limits_; }
    size_t spent() const { return spent_; }

    // A step is some 10 ns: an edge looked at, a state made. Throws Refused when there is no more.
    void spend(size_t steps = 1) {
        spent_ += steps;
        if (spent_ >= next_look_) look();
    }

 private:
    using Clock = std::chrono::steady_clock;
    static constexpr size_t steps_between_looks = 50'000;  // at the clock: less than a millisecond

    void look() {
        next_look_ = std::min(spent_ + steps_between_looks, effort_.max_work);
        if (effort_.cancelled != nullptr && *effort_.cancelled)
            give_up("nobody waits for the grammar any more");
        if (spent_ >= effort_.max_work) give_up("the grammar needs too much work");
        if (Clock::now() >= deadline_) give_up("compiling the grammar takes too long");
    }
    [[noreturn]] static void give_up(const char* why) {
        throw Refused{{.path = "", .keyword = "", .text = why, .reason = GrammarError::Reason::cost}};
    }

    const GrammarLimits limits_;
    const GrammarEffort effort_;
    const Clock::time_point deadline_;
    size_t spent_ = 0, next_look_ = 0;
};

}  // namespace smelt::grammar
