// Second moments of what a product reads: H = sum of x xᵀ over tokens, which says what an error in its
// weights costs, e H eᵀ for a row e of errors. Plain arithmetic; knows neither models nor formats.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"

namespace smelt {

struct Moments {
    int64_t n_tokens = 0;
    size_t n = 0;          // columns
    std::vector<float> h;  // (n, n), symmetric: complete after mirror()

    explicit Moments(size_t n_columns = 0) : n(n_columns), h(n_columns * n_columns) {}

    // Adds rows (n_rows, n); only the upper half is kept up until mirror().
    void add(std::span<const float> rows, ThreadPool& pool);
    void mirror();
    float diagonal(size_t i) const { return h[i * n + i]; }
    // Mean of x², column by column: what an importance matrix has.
    std::vector<float> squares() const;
};

// D = sum of (y - x) xᵀ over tokens: how far the inputs of a product are from what they were, y, as seen from
// what they are, x. Weights W that read y do best as W + W D H⁻¹ where x comes in its place.
struct Drift {
    size_t n = 0;
    std::vector<float> d;  // (n, n)

    explicit Drift(size_t n_columns = 0) : n(n_columns), d(n_columns * n_columns) {}
    // Rows (n_rows, n): as they were, as they are.
    void add(std::span<const float> before, std::span<const float> now, ThreadPool& pool);
};

// H = T Tᵀ with T upper triangular, so that e H eᵀ = |e T|²: the error that column j adds depends on the
// columns before it alone. Kept by columns: column(j)[i] = T(i, j) for i <= j.
class TriangularFactor {
 public:
    // `damping` times the mean of the diagonal is added to it, and more where H is still singular. Columns
    // that no token reaches count as much as the damping.
    TriangularFactor(const Moments& moments, double damping, ThreadPool& pool);

    size_t n() const { return n_; }
    std::span<const float> column(size_t j) const { return std::span(t_).subspan(j * n_, j + 1); }
    float diagonal(size_t j) const { return t_[j * n_ + j]; }
    // v becomes v H⁻¹.
    void solve(std::span<float> v) const;

 private:
    bool factorise(const Moments& moments, double added, ThreadPool& pool);

    size_t n_;
    std::vector<float> t_;  // (n, n): row j is column j
};

}  // namespace smelt
