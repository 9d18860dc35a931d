// What the beams of one request know together: which texts have ended, and what goes on. Knows no cache and
// no device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/request.h"

namespace smelt {

class BeamGroup {
 public:
    struct Text {
        std::vector<int32_t> answer = {};  // without the stop id
        int32_t stop_id = -1;              // -1: it was cut
        double cumulative_logprob = 0, score = 0;
    };
    // How a beam can go on, and how likely the whole is then.
    struct Step {
        size_t beam;
        int32_t id;
        double cumulative_logprob;
    };
    struct Beam {
        std::span<const int32_t> answer;
        double cumulative_logprob;
        std::span<const TokenLogprob>
            likeliest;  // of the next token, at least 2 * width where there are so many
    };

    // The next `width` beams, the best first; texts that end are kept. Empty: the search is over.
    std::vector<Step> advance(std::span<const Beam> beams, const Request& request, int max_tokens);
    // Adds what has not ended when the search did, `beams`, unless it is over; returns the n best.
    std::vector<Text> finish(std::span<const Beam> beams, const Request& request);

 private:
    void add(Text text, const BeamSearch& search);

    std::vector<Text> ended_;  // the `width` best, the best first
    bool over_ = false;
};

}  // namespace smelt
