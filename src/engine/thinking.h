// A limit on what a model thinks before it answers.
#pragma once

#include <cstdint>
#include <vector>

namespace smelt {

struct ThinkingLimit {
    int n_tokens = -1;               // between the marks, over all of an answer's thoughts; -1: no limit
    bool is_open = false;            // the prompt wrote the opening mark
    std::vector<int32_t> open = {};  // tokens of the opening mark, where the answer may write it
    int32_t close = -1;              // the closing mark
};

// How far one answer's thinking is.
class ThinkingCount {
 public:
    explicit ThinkingCount(const ThinkingLimit& limit) : is_open_(limit.is_open) {}

    // The token that has to come next, or -1.
    int32_t forced(const ThinkingLimit& limit) const {
        return is_open_ && n_tokens_ >= limit.n_tokens ? limit.close : -1;
    }
    void accept(const ThinkingLimit& limit, int32_t id) {
        if (is_open_) {
            if (id == limit.close) {
                is_open_ = false;
            } else {
                ++n_tokens_;
            }
            return;
        }
        if (limit.open.empty()) return;
        if (id != limit.open[n_matched_]) n_matched_ = 0;
        if (id == limit.open[n_matched_]) ++n_matched_;
        if (n_matched_ < limit.open.size()) return;
        n_matched_ = 0;
        is_open_ = true;
    }

 private:
    bool is_open_;
    int n_tokens_ = 0;
    size_t n_matched_ = 0;  // tokens of the opening mark that stand at the end
};

}  // namespace smelt
