// How many tokens are drafted, so that answers never take longer for it: what is accepted and what steps take
// is measured all the time, and a draft is made where both say that it pays. Knows numbers alone.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

struct DraftOptions {
    bool lookup = false;  // what followed the same words before, in prompt and answer
    int max = 16;         // tokens of a sequence and step at most
    int min = 0;          // fewer than these are not worth it
    float p_min = 0;      // a draft model goes on while its token is at least as likely
    // How many last tokens must have stood before.
    int min_match = 2;
    bool adaptive = true;  // false: always as many as can be; for tests and measurements
};

// What a draft is judged by: how long the match was, or how sure the draft model is.
enum class DraftKind : uint8_t { short_match, match, long_match, unsure, likely, sure, certain, count };

struct Draft {
    int32_t id = -1;
    DraftKind kind = DraftKind::short_match;
};

// The share of drafts that were accepted, the latest counting most.
struct Acceptance {
    float n_tested = 0, n_accepted = 0;

    void see(bool accepted, float memory) {
        n_tested = n_tested * memory + 1;
        n_accepted = n_accepted * memory + (accepted ? 1 : 0);
    }
};
using Acceptances = std::array<Acceptance, static_cast<size_t>(DraftKind::count)>;

class DraftPolicy {
 public:
    explicit DraftPolicy(const DraftOptions& options);

    const DraftOptions& options() const { return options_; }

    // Whether a draft of the kind was what was drawn, in the sequence that `own` is of.
    void see(DraftKind kind, bool accepted, Acceptances& own);
    double chance(DraftKind kind, const Acceptances& own) const;
    // Of a draft that the model has not made yet.
    double chance_of_model(const Acceptances& own) const;

    // A step of n_seqs answers with n_rows tokens brought n_tokens and took so long since the step before,
    // the time of drafting apart. `drafting`: seconds of a draft model.
    void saw_step(int n_seqs, int n_rows, int n_tokens, double seconds, double drafting, int n_drafting);
    // Of a step of answers alone with as many tokens; 0: nothing is known.
    double step_time(int n_rows) const;

    // Whether a step of n_seqs answers may have drafts at all, and whose.
    bool may_draft(int n_seqs) const;
    bool may_look_up() const { return !options_.adaptive || account_ > 0; }
    bool may_use_model() const { return !options_.adaptive || model_account_ > 0; }
    // How many tokens a draft model is asked for, of each of so many sequences with these chances.
    int length_of_model_drafts(int n_seqs, std::span<const double> chances) const;
    // A draft that is reached with less than this chance costs a draft model more than it brings.
    double least_chance(int n_seqs) const;
    // Of the drafts of several sequences, each with the chance of each to be accepted if those before it
    // are: how many of each are worth verifying.
    void choose(int n_seqs, std::span<const std::span<const double>> chances, std::vector<int>& n_chosen);

 private:
    struct Time {
        double seconds = 0;
        int n_seen = 0;
        int64_t seen_at = 0;
    };
    static size_t class_of(int n_rows);
    static int rows_of(size_t time_class);
    void see_time(int n_rows, double seconds);
    int most_rows(int n_seqs) const;

    DraftOptions options_;
    Acceptances all_ = {};
    std::vector<Time> times_;  // by class of rows
    double draft_time_ = 0;    // of one step of the draft model
    int64_t n_steps_ = 0;
    int n_since_plain_ = 0;    // steps with drafts since one without
    int n_since_drafted_ = 0;  // steps without drafts since one with
    // Steps that were saved, less those that were lost, by looking up and by the draft model: below 0,
    // nothing is drafted so. Every step earns a little, so that what does not pay is tried again now and
    // then.
    double account_, model_account_;
    struct Candidate {
        double chance;
        int sequence;
    };
    std::vector<Candidate> candidates_;
};

}  // namespace smelt
