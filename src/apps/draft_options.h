// The options of speculative decoding, of every verb that generates.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "apps/values.h"
#include "engine/draft_policy.h"

namespace smelt {

struct DraftFlags {
    std::string speculate = "off";
    std::string model = {};  // not yet local_model()
    DraftOptions drafts = {};

    DraftOptions options() const {
        DraftOptions o = drafts;
        o.lookup = speculate == "lookup";
        return o;
    }
};

inline void add_draft_options(CLI::App& verb, DraftFlags& o) {
    verb.add_option(
            "--speculate", o.speculate,
            "Guess tokens and verify several in one step, where that is faster; answers stay the same. "
            "lookup guesses what followed the same words earlier in the prompt or answer")
        ->check(CLI::IsMember({"off", "lookup"}))
        ->capture_default_str();
    verb.add_option(
        "--draft-model", o.model,
        "A smaller model with the same vocabulary that guesses tokens, alone or together with lookup");
    verb.add_option("--draft-max", o.drafts.max, "Most tokens to guess for one answer in a step")
        ->check(in_range(0, 64))
        ->capture_default_str();
    verb.add_option("--draft-min", o.drafts.min,
                    "Guess nothing where fewer tokens than this could be guessed")
        ->check(in_range(0, 64))
        ->capture_default_str();
    verb.add_option("--draft-p-min", o.drafts.p_min,
                    "A draft model stops where its token is less likely than this")
        ->check(in_range(0.0, 1.0))
        ->capture_default_str();
    verb.add_option("--lookup-min", o.drafts.min_match,
                    "How many tokens in a row must have occurred before, for lookup")
        ->check(in_range(1, 32))
        ->capture_default_str();
}

}  // namespace smelt
