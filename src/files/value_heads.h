// Heads of recurrent layers where the containers order them differently. Several value heads share a key
// head: they are neighbours (grouped) or n_k_heads apart (tiled). And Qwen3-Next's matrix of queries, keys,
// values and gates has those of each key head together in Hugging Face files, and each of the four together
// in GGUF.
#pragma once

#include <vector>

#include "files/conversion.h"
#include "files/sizes.h"

namespace smelt {

class ValueHeads {
 public:
    ValueHeads(const Family& family, const Metadata& metadata);

    // Which row each of n is taken from, when heads go from one order to the other: those that the rule says
    // are heads. Throws Error where n is none of the rule's sizes.
    std::vector<SourceRow> rows(const TensorRule& rule, int64_t n) const;
    std::vector<SourceRow> columns(const TensorRule& rule, int64_t n) const;

    // Of a row of the joined matrix the row of the four parts, one below the other.
    int64_t apart(int64_t row) const;
    int64_t n_qkv() const { return 2 * n_k_ * k_dim_ + n_v_ * v_dim_; }
    // Throws Error where the joined matrix has another size.
    void check(const TensorView& joined) const;

 private:
    std::vector<SourceRow> places(int64_t first, int64_t unit, int64_t n) const;

    Sizes sizes_;
    int64_t n_k_, k_dim_, n_v_, v_dim_;
    bool to_tiled_;
};

}  // namespace smelt
