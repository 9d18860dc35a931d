// Chains of places by the hash of the tokens that end there, as compressors have them.
#include "engine/ngram_lookup.h"

#include <algorithm>

namespace smelt {

namespace {

constexpr size_t n_buckets = size_t{1} << 14;
constexpr int most_tries = 64;  // places that are compared, the latest first

}  // namespace

NgramLookup::NgramLookup(std::span<const int32_t> prediction, int min_match)
    : text_(prediction.begin(), prediction.end()),
      min_match_(static_cast<size_t>(std::max(min_match, 1))),
      heads_(n_buckets) {
    if (!text_.empty()) text_.push_back(no_token);
    first_ = text_.size();
}

// Of the n-gram that ends before `end`.
size_t NgramLookup::bucket_of(size_t end) const {
    uint64_t h = 0;
    for (size_t i = end - min_match_; i < end; ++i) {
        h = (h ^ static_cast<uint32_t>(text_[i])) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h % n_buckets;
}

void NgramLookup::update(std::span<const int32_t> ids, int n_prompt) {
    const size_t n_known = text_.size() - first_;
    if (n_known < ids.size()) {
        const auto fresh = ids.subspan(n_known);
        text_.insert(text_.end(), fresh.begin(), fresh.end());
    }
    answer_ = first_ + static_cast<size_t>(n_prompt);
    before_.resize(text_.size());
    // An n-gram is known once a token follows it.
    for (; indexed_ + 1 < text_.size(); ++indexed_) {
        if (indexed_ + 1 < min_match_) continue;
        uint32_t& head = heads_[bucket_of(indexed_ + 1)];
        before_[indexed_] = head;
        head = static_cast<uint32_t>(indexed_ + 1);
    }
}

// So many tokens before `end` are those that the text ends with.
int NgramLookup::match_at(size_t end) const {
    int n = 0;
    for (size_t a = end, b = text_.size(); a > 0 && n < most_match; ++n) {
        if (text_[--a] != text_[--b] || text_[a] == no_token) break;
    }
    return n;
}

// The answer is, so far, the beginning of the prediction.
bool NgramLookup::goes_as_predicted() const {
    const size_t n = text_.size() - answer_;
    return first_ > 1 && n > 0 && n < first_ - 1 &&
           std::equal(text_.begin(), text_.begin() + static_cast<ptrdiff_t>(n),
                      text_.begin() + static_cast<ptrdiff_t>(answer_));
}

int NgramLookup::find(int n, std::vector<int32_t>& next) const {
    if (n <= 0 || text_.size() < min_match_ + first_) return 0;
    size_t best = 0;
    int longest = 0;
    if (goes_as_predicted()) {
        best = text_.size() - answer_;
        longest = most_match;
    }
    uint32_t at = heads_[bucket_of(text_.size())];
    for (int tries = 0; at != 0 && tries < most_tries && longest < most_match; ++tries) {
        if (const int match = match_at(at); match > longest) {
            longest = match;
            best = at;
        }
        at = before_[at - 1];
    }
    if (longest < static_cast<int>(min_match_)) return 0;
    // A text that repeats itself goes on in what is appended here.
    const size_t first = next.size();
    for (size_t i = best; n > 0; ++i, --n) {
        const int32_t id = i < text_.size() ? text_[i] : next[first + i - text_.size()];
        if (id == no_token) break;
        next.push_back(id);
    }
    return next.size() > first ? longest : 0;
}

}  // namespace smelt
