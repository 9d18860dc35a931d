// Every sequence has `depth` tokens behind it and writes `n_decode` more; a step has one token of each. The
// device draws them, as it does for a server's answers.
#include "apps/bench_batch.h"

#include <fmt/format.h>

#include <chrono>
#include <numeric>

#include "apps/series.h"
#include "engine/device_runner.h"

namespace smelt {

namespace {

// So many sequences, each with blocks of its own that are in order.
class Company {
 public:
    Company(const Model& model, Backend& backend, int n_seqs, const BatchBenchOptions& o)
        : n_seqs_(n_seqs),
          o_(o),
          n_vocab_(model.config().vocab_size),
          blocks_each_((std::max(o.depth, 1) + o.n_decode + default_block_len - 1) / default_block_len),
          runner_(
              model, backend,
              {.n_ctx = std::max(o.depth, 1) + o.n_decode, .n_blocks = n_seqs * blocks_each_, .kv = o.kv}),
          blocks_(static_cast<size_t>(n_seqs * blocks_each_)),
          last_(static_cast<size_t>(n_seqs)) {
        std::iota(blocks_.begin(), blocks_.end(), 0);
    }

    // One token where there is no depth: an answer begins behind something.
    void fill_context() {
        const int depth = std::max(o_.depth, 1);
        for (int s = 0; s < n_seqs_; ++s) {
            for (int first = 0; first < depth; first += o_.chunk) {
                std::vector<int32_t> ids(static_cast<size_t>(std::min(o_.chunk, depth - first)));
                for (size_t i = 0; i < ids.size(); ++i) {
                    ids[i] = static_cast<int32_t>((7919 * (first + static_cast<int64_t>(i)) + 11 + 101 * s) %
                                                  n_vocab_);
                }
                batch_.clear();
                add(s, ids, first);
                if (first + o_.chunk >= depth) draw(batch_.n_tokens() - 1);
                runner_.launch(batch_);
                const StepResult result = runner_.collect();
                if (!result.tokens.empty()) last_[static_cast<size_t>(s)] = result.tokens[0];
            }
        }
    }

    void decode() {
        for (int i = 0; i < o_.n_decode; ++i) {
            batch_.clear();
            for (int s = 0; s < n_seqs_; ++s) {
                add(s, std::span(&last_[static_cast<size_t>(s)], 1), std::max(o_.depth, 1) + i);
                draw(s);
            }
            batch_.n_generated = n_seqs_;
            runner_.launch(batch_);
            const StepResult result = runner_.collect();
            std::ranges::copy(result.tokens, last_.begin());
        }
    }

 private:
    void add(int seq, std::span<const int32_t> ids, int first) {
        const int n_blocks =
            (first + static_cast<int>(ids.size()) + default_block_len - 1) / default_block_len;
        batch_.add_sequence(ids, first,
                            std::span(blocks_).subspan(static_cast<size_t>(seq * blocks_each_),
                                                       static_cast<size_t>(n_blocks)),
                            default_block_len);
    }
    void draw(int row) {
        batch_.logits_rows.push_back(row);
        batch_.draws.push_back({.temperature = 0, .draws = 1});
    }

    int n_seqs_;
    const BatchBenchOptions& o_;
    int64_t n_vocab_;
    int blocks_each_;
    DeviceRunner runner_;
    std::vector<int32_t> blocks_, last_;
    Batch batch_;
};

struct Row {
    int n_seqs = 0;
    Series rate = {};  // tokens a second of all sequences together
};

Row measure(const Model& model, Backend& backend, int n_seqs, const BatchBenchOptions& o) {
    Company company(model, backend, n_seqs, o);
    company.fill_context();
    Row row{.n_seqs = n_seqs};
    for (int run = 0; run <= o.n_runs; ++run) {  // the first warms up
        const auto start = std::chrono::steady_clock::now();
        company.decode();
        const std::chrono::duration<double> t = std::chrono::steady_clock::now() - start;
        if (run > 0) row.rate.values.push_back(n_seqs * o.n_decode / t.count());
    }
    return row;
}

}  // namespace

void bench_batch(const std::string& name, const Model& model, Backend& backend, const BatchBenchOptions& o) {
    if (!o.json) {
        fmt::print(
            "{}, {}: {}\ndecode of {} tokens each at depth {}, median of {} runs\n\n"
            "{:>9}  {:>20}  {:>18}  {:>12}  {}\n",
            name, backend.name(), backend.description(), o.n_decode, o.depth, o.n_runs, "sequences",
            "all together, tok/s", "each, tok/s", "against one", "worst to best");
    }
    Json rows = Json::array();
    double one = 0;
    for (const int n : o.n_seqs) {
        const Row row = measure(model, backend, n, o);
        const double median = row.rate.median();
        if (n == 1) one = median;
        if (o.json) {
            rows.push_back({{"sequences", n}, {"tokens_per_s", row.rate.json()}});
            continue;
        }
        fmt::print("{:>9}  {:>20.2f}  {:>18.2f}  {:>12}  {:.2f} to {:.2f}\n", n, median, median / n,
                   one > 0 ? fmt::format("{:.2f}", median / one) : "-", row.rate.min(), row.rate.max());
        std::fflush(stdout);
    }
    if (!o.json) return;
    const Json result = {{"model", name},
                         {"device", backend.name()},
                         {"device_description", backend.description()},
                         {"kv", to_string(o.kv)},
                         {"depth", o.depth},
                         {"decode", o.n_decode},
                         {"runs", o.n_runs},
                         {"batch", rows}};
    fmt::print("{}\n", result.dump(2));
}

}  // namespace smelt
