// KL of one rounded tensor alone, per unit of its error; errors of other formats scale it. KL of several
// tensors is taken as the sum.
#include "lab/allocation.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "lab/comparison.h"
#include "lab/named_backend.h"
#include "lab/staged_run.h"

namespace smelt {

namespace {

constexpr Format candidates[] = {Format::Q2_K, Format::Q3_K, Format::IQ4_XS, Format::Q4_K,
                                 Format::Q5_K, Format::Q6_K, Format::Q8_0};
constexpr Format probe = Format::Q3_K;  // errors that are seen above the noise, and still small

struct Choice {
    Format format;
    uint64_t bytes;
    double loss;  // KL, as far as it can be foretold
};
// Tensors that get one format: experts of a layer, or a single one.
struct Group {
    std::vector<const TensorView*> tensors;
    std::vector<Choice> choices;  // by size
    double probe_error = 0;       // e H eᵀ of the probe's plain rounding
    std::vector<double> errors;   // of candidates, with compensation; empty where no product reads it
    size_t chosen = 0;
};

// "blk.3.ffn_gate_exps.weight" for expert 7 of it, the name itself for others.
std::string group_name(const TensorView& t) {
    std::string name = t.name;
    const size_t at = name.find(".ffn_");
    if (at == std::string::npos) return name;
    // GGUF's old names of single experts: blk.3.ffn_gate.7.weight
    const size_t number = name.find('.', at + 1), end = name.rfind('.');
    if (number != end && number != std::string::npos) name.erase(number, end - number);
    return name;
}

class Allocation {
 public:
    Allocation(const std::shared_ptr<const ModelFile>& model, Backend& backend, const TextWindows& windows,
               const AllocationOptions& options)
        : file_(model), backend_(backend), options_(options), pool_(options.n_threads) {
        const size_t n = windows.n(), judged = std::min(static_cast<size_t>(options.n_windows), (n + 1) / 2);
        const auto length = static_cast<size_t>(windows.length);
        const std::span<const int32_t> ids(windows.ids);
        judged_.emplace(ids.subspan((n - judged) * length), windows.length);
        // A few are enough for second moments that formats are compared by.
        calibration_.emplace(ids.first((n - judged) * length), windows.length, 16);
        for (const TensorView& t : file_->tensors) {
            if (!takes_format(t) || t.row_len() % 32 != 0) {
                fixed_bytes_ += data_bytes(t.shape.size() < 2 ? Format::F32 : t.format, t.n_elements());
                continue;
            }
            groups_[group_name(t)].tensors.push_back(&t);
        }
    }

    FormatMap run(uint64_t n_bytes) {
        measure_errors();
        measure_divergences();
        if (n_bytes < fixed_bytes_) fail(n_bytes);
        choose(n_bytes - fixed_bytes_);
        FormatMap formats;
        for (const auto& [name, g] : groups_) {
            for (const TensorView* t : g.tensors) formats[t->name] = g.choices[g.chosen].format;
        }
        return formats;
    }

 private:
    [[noreturn]] void fail(uint64_t n_bytes) const {
        uint64_t least = fixed_bytes_;
        for (const auto& [name, g] : groups_) least += g.choices.front().bytes;
        throw Error("--auto: expected room for at least {} bytes of weights, found {}", least, n_bytes);
    }
    static bool fits(const Group& g, Format f) {
        return g.tensors.front()->row_len() % format_info(f).block_len == 0;
    }

    // What each format makes of rows here and there, with the moments of the products that read them.
    void measure_errors() {
        NamedBackend named(backend_, *file_);
        const auto model = load_model(file_, named);
        StagedRun run(*model, named, *calibration_);
        for (;;) {
            Moments moments;
            const bool more = run.advance([&](size_t, std::span<const float> rows) {
                if (moments.n == 0) moments = Moments(static_cast<size_t>(run.product().n_columns));
                moments.add(rows, pool_);
            });
            if (!more) break;
            moments.mirror();
            std::optional<Compensator> compensator;
            for (const Weight* w : run.product().weights) {
                const TensorPart part = named.part_of(*w);
                if (part.tensor == nullptr) continue;
                const auto found = groups_.find(group_name(*part.tensor));
                if (found == groups_.end() || !found->second.errors.empty()) continue;
                if (!compensator) compensator.emplace(moments, CompensationOptions{.n_sweeps = 0}, pool_);
                measure_rows(found->second, *part.tensor, *compensator);
            }
        }
    }

    void measure_rows(Group& g, const TensorView& t, const Compensator& compensator) {
        const int64_t n = std::min<int64_t>(options_.n_sampled_rows, t.n_rows());
        const Format plain = fits(g, probe) ? probe : Format::Q4_0;
        g.errors.assign(std::size(candidates), 0);
        std::vector<std::vector<double>> sums(static_cast<size_t>(pool_.size()),
                                              std::vector<double>(std::size(candidates) + 1));
        pool_.run([&](int member) {
            std::vector<double>& sum = sums[static_cast<size_t>(member)];
            std::vector<float> row(static_cast<size_t>(t.row_len())), back(row.size());
            std::vector<std::byte> bytes(data_bytes(Format::Q8_0, t.row_len()));
            for (int64_t i = member; i < n; i += pool_.size()) {
                decode_row(t.row(i * t.n_rows() / n), row);
                for (size_t c = 0; c < std::size(candidates); ++c) {
                    if (fits(g, candidates[c]))
                        sum[c] += compensator.round_row(candidates[c], row, bytes.data());
                }
                encode_row(plain, row, bytes.data(), nullptr);
                decode_row({plain, bytes.data(), nullptr, t.row_len()}, back);
                for (size_t k = 0; k < row.size(); ++k) back[k] = row[k] - back[k];
                sum.back() += compensator.cost(back);
            }
        });
        for (const auto& sum : sums) {
            for (size_t c = 0; c < g.errors.size(); ++c) g.errors[c] += sum[c];
            g.probe_error += sum.back();
        }
    }

    // One group after the other rounded plainly, all else as it is.
    void measure_divergences() {
        const auto reference = load_model(file_, backend_);
        WindowReader reference_reader(*reference, backend_, judged_->length, {});
        std::vector<std::vector<float>> expected;
        for (size_t i = 0; i < judged_->n(); ++i) {
            const auto rows = reference_reader.logits(*judged_, i);
            expected.emplace_back(rows.begin(), rows.end());
        }
        size_t done = 0;
        for (auto& [name, g] : groups_) {
            const Format plain = fits(g, probe) ? probe : Format::Q4_0;
            FormatMap formats;
            for (const TensorView* t : g.tensors) formats[t->name] = plain;
            const auto rounded = with_tensors(*file_, formats, plainly_rounded(formats));
            const auto model = load_model(rounded, backend_);
            WindowReader reader(*model, backend_, judged_->length, {});
            std::vector<TokenScore> scores;
            for (size_t i = 0; i < judged_->n(); ++i) {
                const auto s =
                    score_rows(reader.logits(*judged_, i), expected[i], judged_->targets(i), pool_);
                scores.insert(scores.end(), s.begin(), s.end());
            }
            set_choices(g, summarize(scores).kl_mean);
            if (options_.progress) options_.progress(++done, groups_.size());
        }
    }

    TensorBytes plainly_rounded(const FormatMap& formats) {
        TensorBytes bytes;
        for (const auto& [name, format] : formats) {
            const TensorView& t = file_->require(name);
            const size_t row_bytes = data_bytes(format, t.row_len());
            std::vector<std::byte>& out = bytes[name];
            out.resize(row_bytes * static_cast<size_t>(t.n_rows()));
            pool_.run([&](int member) {
                std::vector<float> row(static_cast<size_t>(t.row_len()));
                for (int64_t r = member; r < t.n_rows(); r += pool_.size()) {
                    decode_row(t.row(r), row);
                    encode_row(format, row, out.data() + static_cast<size_t>(r) * row_bytes, nullptr);
                }
            });
        }
        return bytes;
    }

    void set_choices(Group& g, double probe_kl) {
        for (size_t c = 0; c < std::size(candidates); ++c) {
            if (!fits(g, candidates[c])) continue;
            uint64_t bytes = 0;
            for (const TensorView* t : g.tensors) bytes += data_bytes(candidates[c], t->n_elements());
            // Where no product reads it, the error of a weight falls fourfold with each bit.
            const double bits =
                8.0 * format_info(candidates[c]).block_bytes / format_info(candidates[c]).block_len;
            const double share = g.errors.empty() || !(g.probe_error > 0) ? std::exp2(2 * (3.4375 - bits))
                                                                          : g.errors[c] / g.probe_error;
            // A format that is larger and no better is no choice.
            if (!g.choices.empty() && probe_kl * share >= g.choices.back().loss) continue;
            g.choices.push_back({candidates[c], bytes, probe_kl * share});
        }
    }

    // The best sum under a price for bytes, at the lowest price that the budget allows; what is left goes
    // where it helps most.
    void choose(uint64_t n_bytes) {
        const auto at_price = [&](double price) {
            uint64_t total = 0;
            for (auto& [name, g] : groups_) {
                g.chosen = 0;
                for (size_t c = 1; c < g.choices.size(); ++c) {
                    const Choice &a = g.choices[g.chosen], &b = g.choices[c];
                    if (a.loss - b.loss > price * static_cast<double>(b.bytes - a.bytes)) g.chosen = c;
                }
                total += g.choices[g.chosen].bytes;
            }
            return total;
        };
        double low = 0, high = 1;  // KL a byte
        if (at_price(high) > n_bytes) fail(n_bytes + fixed_bytes_);
        for (int i = 0; i < 100; ++i) {
            const double middle = i < 60 && low == 0 ? high / 2 : (low + high) / 2;
            (at_price(middle) <= n_bytes ? high : low) = middle;
        }
        uint64_t used = at_price(high);
        for (;;) {
            Group* best = nullptr;
            size_t best_choice = 0;
            double best_rate = 0;
            for (auto& [name, g] : groups_) {
                for (size_t c = g.chosen + 1; c < g.choices.size(); ++c) {
                    const uint64_t more = g.choices[c].bytes - g.choices[g.chosen].bytes;
                    const double rate =
                        (g.choices[g.chosen].loss - g.choices[c].loss) / static_cast<double>(more);
                    if (used + more <= n_bytes && rate > best_rate) {
                        best = &g;
                        best_choice = c;
                        best_rate = rate;
                    }
                }
            }
            if (best == nullptr) break;
            used += best->choices[best_choice].bytes - best->choices[best->chosen].bytes;
            best->chosen = best_choice;
        }
    }

    std::shared_ptr<const ModelFile> file_;
    Backend& backend_;
    AllocationOptions options_;
    ThreadPool pool_;
    std::optional<TextWindows> judged_, calibration_;
    std::map<std::string, Group> groups_;
    uint64_t fixed_bytes_ = 0;
};

}  // namespace

FormatMap allocate(const std::shared_ptr<const ModelFile>& model, Backend& backend,
                   const TextWindows& windows, uint64_t n_bytes, const AllocationOptions& options) {
    return Allocation(model, backend, windows, options).run(n_bytes);
}

}  // namespace smelt
