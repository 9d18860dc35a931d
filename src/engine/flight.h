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
        int n_drafts = 0;  // last tokens that are guesses, each with a row of logits
    };
    std::vector<Part> parts;
    Batch batch;
    bool answers_only = false;  // no token of a prompt, none that is computed again
    double draft_seconds = 0;   // of the draft model before it
    int n_draft_steps = 0;

    void clear() {
        answers_only = false;
        draft_seconds = 0;
        n_draft_steps = 0;
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
