// How one row of logits becomes a token, as plain data that a device can read. Device-safe.
#pragma once

#ifndef __METAL_VERSION__
#include <cstdint>
#endif

namespace smelt {

// A change of one logit before drawing, in this order: + bias; where the token was seen, / the repetition
// penalty if positive, else *; - n_generated * frequency penalty; - presence penalty where n_generated > 0;
// banned: -infinity. A row's edits are made one after the other, in
// float.
struct LogitEdit {
    int32_t id = 0;
    float bias = 0;
    int32_t n_generated = 0;  // times in the answer
    uint16_t seen = 0;        // in prompt or answer
    uint16_t banned = 0;
};
static_assert(sizeof(LogitEdit) == 16);

// The stages in order: allowed tokens, edits, temperature, top-k, top-p, min-p, draw. See sampling/sampler.h.
struct DrawRow {
    float temperature = 1;  // less than 1e-5: the largest logit
    int32_t top_k = 0;      // 0: off
    float top_p = 1, min_p = 0;
    float repetition_penalty = 1, presence_penalty = 0, frequency_penalty = 0;
    int32_t first_edit = 0, n_edits = 0;  // in the step's list
    uint32_t masked = 0;                  // whether only tokens of the row's mask are allowed
    uint32_t draws = 0;                   // 0: the row's token is not drawn here
    uint32_t logprob = 0;                 // whether its log-probability is wanted
    uint32_t random[2] = {};              // uniform bits, low word first
    uint32_t unused[2] = {};
};
static_assert(sizeof(DrawRow) == 64);

// Why a row has no token.
enum class DrawProblem : int32_t {
    none = 0,
    nan = -1,
    infinite = -2,
    all_minus_infinity = -3,
    all_banned = -4,
    infinite_after_edits = -5,
    memory = -6,  // too little of it for the scratch that drawing needs
};
#ifndef __METAL_VERSION__
// "logits contain NaN"
const char* to_string(DrawProblem problem);
#endif

}  // namespace smelt
