// Loops over contiguous memory, in blocks of rows.
#include "lab/moments.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "lab/vector_sums.h"

namespace smelt {

void Moments::add(std::span<const float> rows, ThreadPool& pool) {
    const VectorSums& sums = vector_sums();
    const size_t n_rows = rows.size() / n;
    n_tokens += static_cast<int64_t>(n_rows);
    pool.run([&](int member) {
        // Rows of H by turns, since the first ones are the longest.
        for (auto i = static_cast<size_t>(member); i < n; i += static_cast<size_t>(pool.size())) {
            float* out = h.data() + i * n;
            size_t r = 0;
            for (; r + 4 <= n_rows; r += 4) {
                const float* x = rows.data() + r * n;
                const float w[4] = {x[i], x[i + n], x[i + 2 * n], x[i + 3 * n]};
                sums.add_four(w, x + i, n, out + i, n - i);
            }
            for (; r < n_rows; ++r) sums.add_scaled(rows[r * n + i], rows.data() + r * n + i, out + i, n - i);
        }
    });
}

void Moments::mirror() {
    for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < i; ++j) h[i * n + j] = h[j * n + i];
    }
}

std::vector<float> Moments::squares() const {
    std::vector<float> mean(n);
    const auto tokens = static_cast<float>(std::max<int64_t>(n_tokens, 1));
    for (size_t i = 0; i < n; ++i) mean[i] = diagonal(i) / tokens;
    return mean;
}

TriangularFactor::TriangularFactor(const Moments& moments, double damping, ThreadPool& pool)
    : n_(moments.n), t_(moments.n * moments.n) {
    double mean = 0;
    for (size_t i = 0; i < n_; ++i)
        mean += static_cast<double>(moments.diagonal(i)) / static_cast<double>(n_);
    if (!(mean > 0)) mean = 1;  // no token came: rounding to nearest
    double added = damping * mean;
    while (!factorise(moments, added, pool)) added = std::max(10 * added, 1e-6 * mean);
}

// From the last column to the first. During the work t_ holds T by rows, above its diagonal.
bool TriangularFactor::factorise(const Moments& m, double added, ThreadPool& pool) {
    constexpr size_t block = 32;
    const VectorSums& sums = vector_sums();
    std::vector<float> rows = m.h;  // what is left of H; T replaces it
    for (size_t i = 0; i < n_; ++i) rows[i * n_ + i] += static_cast<float>(added);
    for (size_t end = n_; end > 0;) {
        const size_t first = end > block ? end - block : 0;
        // The block's own triangle, by the columns to its right.
        for (size_t j = end; j-- > first;) {
            const float left = rows[j * n_ + j];
            if (!(left > 0) || !std::isfinite(left)) return false;
            const float diagonal = std::sqrt(left);
            rows[j * n_ + j] = diagonal;
            for (size_t i = first; i < j; ++i) rows[i * n_ + j] /= diagonal;
            for (size_t i = first; i < j; ++i) {
                for (size_t k = first; k <= i; ++k) rows[k * n_ + i] -= rows[k * n_ + j] * rows[i * n_ + j];
            }
        }
        pool.run([&](int member) {
            // The columns of the rows above.
            for (auto i = static_cast<size_t>(member); i < first; i += static_cast<size_t>(pool.size())) {
                float* row = rows.data() + i * n_;
                for (size_t j = end; j-- > first;) {
                    float v = row[j];
                    for (size_t k = j + 1; k < end; ++k) v -= row[k] * rows[j * n_ + k];
                    row[j] = v / rows[j * n_ + j];
                }
            }
            pool.barrier();
            // What they take from the rest of H.
            for (auto i = static_cast<size_t>(member); i < first; i += static_cast<size_t>(pool.size())) {
                float* row = rows.data() + i * n_;
                for (size_t k = i; k < first; ++k) {
                    row[k] -= sums.dot(row + first, rows.data() + k * n_ + first, end - first);
                }
            }
        });
        end = first;
    }
    for (size_t j = 0; j < n_; ++j) {
        for (size_t i = 0; i <= j; ++i) t_[j * n_ + i] = rows[i * n_ + j];
    }
    return true;
}

}  // namespace smelt
