// A step that was launched: what it computes and for whom. Two of them are used in turn, so that nothing is
// allocated once they have grown.
#pragma once

#include <vector>

#include "engine/batch.h"
#include "engine/sequence.h"

namespace smelt {

struct Flight {
    struct Part {
        Sequence* sequence = nullptr;  // null: it has ended since the launch
        int first = 0;                 // position of its first token
        int n_tokens = 0;
        bool last = false;  // it reached the end of what the sequence has: a token may follow
        // Its rows of logits, and its first of hidden states, in the step's results.
        int first_row = 0, last_row = -1, first_hidden = 0;
    };
    std::vector<Part> parts;
    Batch batch;

    void clear() {
        parts.clear();
        batch.clear();
    }
    // Nobody waits for it any more.
    bool forsaken() const {
        for (const Part& p : parts) {
            if (p.sequence != nullptr) return false;
        }
        return true;
    }
    void forget(const Sequence& s) {
        for (Part& p : parts) {
            if (p.sequence == &s) p.sequence = nullptr;
        }
    }
};

}  // namespace smelt
