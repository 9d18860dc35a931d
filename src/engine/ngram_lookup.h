// Guesses how a text goes on without a model: where its last tokens stood before, what came next then. Looks
// through prompt and answer, and through a prediction where a request brings one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace smelt {

class NgramLookup {
 public:
    // At least min_match of the last tokens must have stood before.
    explicit NgramLookup(std::span<const int32_t> prediction = {}, int min_match = default_min_match);

    static constexpr int default_min_match = 2, most_match = 32;

    // `ids` are the whole sequence, which only grows; the first n_prompt were given.
    void update(std::span<const int32_t> ids, int n_prompt);
    // Appends at most n tokens that may come next; returns how many of the last tokens stood before them, 0
    // where nothing is found.
    int find(int n, std::vector<int32_t>& next) const;

 private:
    size_t bucket_of(size_t end) const;
    int match_at(size_t end) const;
    bool goes_as_predicted() const;

    static constexpr int32_t no_token = -1;
    std::vector<int32_t> text_;  // the prediction and no_token, then the sequence
    size_t min_match_;
    size_t first_;        // of the sequence in text_
    size_t answer_ = 0;   // of the answer in text_
    size_t indexed_ = 0;  // tokens of text_ that were looked at
    // Ends of n-grams by their hash, the latest first: 1 + index of the n-gram's last token; 0: none.
    std::vector<uint32_t> heads_, before_;
};

}  // namespace smelt
