// Tensors row by row, predictions window by window.
#include "lab/comparison.h"

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

// Containers pair the rows that RoPE rotates differently.
bool same_row_order(const ModelFile& a, const ModelFile& b, const std::string& name) {
    if (name.find("attn_q.") == std::string::npos && name.find("attn_k.") == std::string::npos) return true;
    const auto pairing = [](const ModelFile& m) {
        const std::string* p = m.metadata.get_string("smelt.rope.pairing");
        return p == nullptr ? std::string("half") : *p;
    };
    return pairing(a) == pairing(b);
}

TensorError error_of(const TensorView& a, const TensorView& b, ThreadPool& pool) {
    struct Sums {
        double errors = 0, squares = 0, largest = 0;
    };
    std::vector<Sums> sums(static_cast<size_t>(pool.size()));
    pool.run([&](int member) {
        Sums& s = sums[static_cast<size_t>(member)];
        std::vector<float> x(static_cast<size_t>(a.row_len())), y(x.size());
        const int64_t n = a.n_rows();
        for (int64_t r = n * member / pool.size(); r < n * (member + 1) / pool.size(); ++r) {
            decode_row(a.row(r), x);
            decode_row(b.row(r), y);
            for (size_t i = 0; i < x.size(); ++i) {
                const double difference = std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i]));
                s.errors += difference * difference;
                s.squares += static_cast<double>(x[i]) * static_cast<double>(x[i]);
                s.largest = std::max(s.largest, difference);
            }
        }
    });
    Sums all;
    for (const Sums& s : sums) {
        all.errors += s.errors;
        all.squares += s.squares;
        all.largest = std::max(all.largest, s.largest);
    }
    return {b.name, b.format, all.squares > 0 ? std::sqrt(all.errors / all.squares) : 0, all.largest};
}

}  // namespace

std::vector<TensorError> tensor_errors(const ModelFile& original, const ModelFile& other, ThreadPool& pool) {
    std::vector<TensorError> errors;
    for (const TensorView& b : other.tensors) {
        const TensorView* a = original.find(b.name);
        if (a == nullptr || a->format == b.format || a->shape != b.shape || b.shape.size() < 2 ||
            !same_row_order(original, other, b.name)) {
            continue;
        }
        errors.push_back(error_of(*a, b, pool));
    }
    return errors;
}

ScoreSummary compare_models(std::shared_ptr<const ModelFile> original, std::shared_ptr<const ModelFile> other,
                            Backend& backend, const TextWindows& windows, int n_threads) {
    const auto reference = load_model(std::move(original), backend),
               model = load_model(std::move(other), backend);
    WindowReader reference_reader(*reference, backend, windows.length, {}),
        reader(*model, backend, windows.length, {});
    ThreadPool pool(n_threads);
    std::vector<TokenScore> all;
    std::vector<float> expected;
    for (size_t i = 0; i < windows.n(); ++i) {
        const auto rows = reference_reader.logits(windows, i);
        expected.assign(rows.begin(), rows.end());
        const auto scores = score_rows(reader.logits(windows, i), expected, windows.targets(i), pool);
        all.insert(all.end(), scores.begin(), scores.end());
    }
    return summarize(all);
}

}  // namespace smelt
