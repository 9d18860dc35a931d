// Row numbers in one order from those in the other.
#include "files/value_heads.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"

namespace smelt {

ValueHeads::ValueHeads(const Family& family, const Metadata& metadata)
    : sizes_(family, metadata),
      n_k_(std::max<int64_t>(sizes_["lin_k_heads"], 1)),
      k_dim_(sizes_["lin_k_dim"]),
      n_v_(sizes_["lin_v_heads"]),
      v_dim_(sizes_["lin_v_dim"]) {
    const std::string* order = metadata.get_string("smelt.value_heads");
    to_tiled_ = order == nullptr || *order != "tiled";
}

std::vector<SourceRow> ValueHeads::places(int64_t first, int64_t unit, int64_t n) const {
    if (first + n_v_ * unit != n || n_v_ % n_k_ != 0) {
        throw Error("value heads: expected {} of {} rows after {}, found {} rows", n_v_, unit, first, n);
    }
    std::vector<SourceRow> from(static_cast<size_t>(n));
    const int64_t each = n_v_ / n_k_;
    for (int64_t r = 0; r < n; ++r) {
        int64_t source = r;
        if (r >= first) {
            const int64_t head = (r - first) / unit;
            // tiled head j * n_k + k is grouped head k * each + j
            const int64_t other =
                to_tiled_ ? head % n_k_ * each + head / n_k_ : head % each * n_k_ + head / each;
            source = first + other * unit + (r - first) % unit;
        }
        from[static_cast<size_t>(r)] = {0, source};
    }
    return from;
}

std::vector<SourceRow> ValueHeads::rows(const TensorRule& rule, int64_t n) const {
    const int64_t first = rule.heads_from.empty() ? 0 : sizes_.shape(rule.heads_from).front();
    return places(first, sizes_.shape(rule.head_rows).front(), n);
}

std::vector<SourceRow> ValueHeads::columns(const TensorRule& rule, int64_t n) const {
    return places(0, sizes_.shape(rule.head_columns).front(), n);
}

int64_t ValueHeads::apart(int64_t row) const {
    const int64_t v_rows = n_v_ / n_k_ * v_dim_, each = 2 * k_dim_ + 2 * v_rows;
    const int64_t head = row / each, r = row % each;
    if (r < k_dim_) return head * k_dim_ + r;
    if (r < 2 * k_dim_) return n_k_ * k_dim_ + head * k_dim_ + r - k_dim_;
    if (r < 2 * k_dim_ + v_rows) return 2 * n_k_ * k_dim_ + head * v_rows + r - 2 * k_dim_;
    return n_qkv() + head * v_rows + r - 2 * k_dim_ - v_rows;
}

void ValueHeads::check(const TensorView& joined) const {
    const int64_t n = n_qkv() + n_v_ * v_dim_;
    if (n_v_ % n_k_ != 0 || joined.n_rows() != n) {
        throw Error("{}: tensor {}: expected {} rows, found {}", joined.source, joined.name, n,
                    joined.n_rows());
    }
}

}  // namespace smelt
