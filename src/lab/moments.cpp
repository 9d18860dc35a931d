// Loops over contiguous memory, in blocks of rows.
#include "lab/moments.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "lab/vector_sums.h"

namespace smelt {

namespace {

// Rows (n_rows, n) as panels of 16 columns, (panels, n_rows, 16), zeros beyond the last column: what products
// of columns are quick on.
class Panels {
 public:
    static constexpr size_t width = 16;
    Panels(size_t n_columns, size_t n_rows) : n_(n_columns), n_rows_(n_rows), values_(n() * n_rows * width) {}

    size_t n() const { return (n_ + width - 1) / width; }
    const float* panel(size_t p) const { return values_.data() + p * n_rows_ * width; }
    // value(r, i) is that of column i.
    template <class Value>
    void fill(size_t p, const Value& value) {
        float* out = values_.data() + p * n_rows_ * width;
        const size_t first = p * width, end = std::min(first + width, n_);
        for (size_t r = 0; r < n_rows_; ++r) {
            for (size_t i = first; i < end; ++i) out[r * width + i - first] = value(r, i);
        }
    }

 private:
    size_t n_, n_rows_;
    std::vector<float> values_;
};

// out(n, n) += aᵀ b, of panel pi of a and pj of b.
void add_tile(const Panels& a, const Panels& b, size_t pi, size_t pj, size_t n_rows, size_t n, float* out) {
    constexpr size_t width = Panels::width;
    float sums[width * width] = {};
    vector_sums().add_products(a.panel(pi), b.panel(pj), n_rows, sums);
    for (size_t i = 0; i < width && pi * width + i < n; ++i) {
        float* row = out + (pi * width + i) * n + pj * width;
        for (size_t j = 0; j < std::min(width, n - pj * width); ++j) row[j] += sums[i * width + j];
    }
}

}  // namespace

void Moments::add(std::span<const float> rows, ThreadPool& pool) {
    const size_t n_rows = rows.size() / n;
    n_tokens += static_cast<int64_t>(n_rows);
    Panels x(n, n_rows);
    pool.run([&](int member) {
        const auto step = static_cast<size_t>(pool.size());
        for (auto p = static_cast<size_t>(member); p < x.n(); p += step) {
            x.fill(p, [&](size_t r, size_t i) { return rows[r * n + i]; });
        }
        pool.barrier();
        for (auto pj = static_cast<size_t>(member); pj < x.n(); pj += step) {
            for (size_t pi = 0; pi <= pj; ++pi) add_tile(x, x, pi, pj, n_rows, n, h.data());
        }
    });
}

void Moments::mirror() {
    for (size_t i = 0; i < n; ++i) {
        for (size_t j = 0; j < i; ++j) h[i * n + j] = h[j * n + i];
    }
}

void Drift::add(std::span<const float> before, std::span<const float> now, ThreadPool& pool) {
    const size_t n_rows = now.size() / n;
    Panels x(n, n_rows), difference(n, n_rows);
    pool.run([&](int member) {
        const auto step = static_cast<size_t>(pool.size());
        for (auto p = static_cast<size_t>(member); p < x.n(); p += step) {
            x.fill(p, [&](size_t r, size_t i) { return now[r * n + i]; });
            difference.fill(p, [&](size_t r, size_t i) { return before[r * n + i] - now[r * n + i]; });
        }
        pool.barrier();
        for (auto pj = static_cast<size_t>(member); pj < x.n(); pj += step) {
            for (size_t pi = 0; pi < x.n(); ++pi) add_tile(difference, x, pi, pj, n_rows, n, d.data());
        }
    });
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

void TriangularFactor::solve(std::span<float> v) const {
    const VectorSums& sums = vector_sums();
    for (size_t j = n_; j-- > 0;) {
        v[j] /= diagonal(j);
        sums.add_scaled(-v[j], column(j).data(), v.data(), j);
    }
    for (size_t j = 0; j < n_; ++j) v[j] = (v[j] - sums.dot(v.data(), column(j).data(), j)) / diagonal(j);
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
