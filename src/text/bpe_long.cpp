// Byte pair encoding of long pieces: a linked list of symbols, and for each rank that some pair has now the
// places where it may be. Near linear, however the merges go.
#include <algorithm>
#include <functional>
#include <queue>
#include <unordered_map>

#include "text/bpe.h"

namespace smelt {

namespace {

// Places of one rank, handed out from left to right. They nearly always come in that order; when one does
// not, the rest becomes a heap.
class Bucket {
 public:
    bool empty() const { return next_ == places_.size(); }

    void push(uint32_t place) {
        if (empty()) *this = {};
        if (!is_heap_ && !places_.empty() && place < places_.back()) {
            places_.erase(places_.begin(), places_.begin() + static_cast<ptrdiff_t>(next_));
            next_ = 0;
            is_heap_ = true;  // ascending, which is a heap
        }
        places_.push_back(place);
        if (is_heap_) std::push_heap(places_.begin(), places_.end(), std::greater<>());
    }

    uint32_t pop() {
        if (!is_heap_) return places_[next_++];
        std::pop_heap(places_.begin(), places_.end(), std::greater<>());
        const uint32_t place = places_.back();
        places_.pop_back();
        return place;
    }

 private:
    std::vector<uint32_t> places_;
    size_t next_ = 0;
    bool is_heap_ = false;
};

constexpr uint32_t none = 0xffffffff;

struct Symbol {
    int32_t id;  // -1: merged into its left neighbour
    uint32_t previous, next;
};

class LongMerge {
 public:
    LongMerge(std::vector<Symbol>& symbols, const MergeTable& table) : symbols_(symbols), table_(table) {}

    void run() {
        for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) add_pair(i);
        while (!ranks_.empty()) {
            const uint32_t rank = ranks_.top();
            Bucket& bucket = buckets_[rank];
            // A merge can make a pair of a lower rank, which then comes first.
            while (!bucket.empty() && ranks_.top() == rank) merge(bucket.pop(), rank);
            if (bucket.empty() && ranks_.top() == rank) {
                ranks_.pop();
                buckets_.erase(rank);
            }
        }
    }

 private:
    // A place may have been merged away, or be there twice.
    void merge(uint32_t place, uint32_t rank) {
        Symbol& left = symbols_[place];
        if (left.id < 0 || left.next == none) return;
        Symbol& right = symbols_[left.next];
        const MergeTable::Entry& pair = table_.find(left.id, right.id);
        if (pair.rank != rank) return;
        right.id = -1;
        left.id = pair.result;
        left.next = right.next;
        if (left.previous != none) add_pair(left.previous);
        if (left.next == none) return;
        symbols_[left.next].previous = place;
        add_pair(place);
    }

    void add_pair(uint32_t place) {
        const Symbol& left = symbols_[place];
        const uint32_t rank = table_.find(left.id, symbols_[left.next].id).rank;
        if (rank == MergeTable::no_rank) return;
        const auto [it, added] = buckets_.try_emplace(rank);
        if (added) ranks_.push(rank);
        it->second.push(place);
    }

    std::vector<Symbol>& symbols_;
    const MergeTable& table_;
    std::unordered_map<uint32_t, Bucket> buckets_;  // by rank; those in ranks_
    std::priority_queue<uint32_t, std::vector<uint32_t>, std::greater<>> ranks_;
};

}  // namespace

void merge_long(std::vector<int32_t>& ids, const MergeTable& merges) {
    if (ids.empty()) return;
    std::vector<Symbol> symbols;
    symbols.reserve(ids.size());
    for (uint32_t i = 0; i < ids.size(); ++i) symbols.push_back({ids[i], i - 1, i + 1});  // 0 - 1 is none
    symbols.back().next = none;
    LongMerge(symbols, merges).run();
    ids.clear();
    for (uint32_t i = 0; i != none; i = symbols[i].next) ids.push_back(symbols[i].id);
}

}  // namespace smelt
