// KL of one rounded tensor alone, per unit of its error; errors of other formats scale it. KL of several
// tensors is taken as the sum.
#include "lab/allocation.h"

#include <cmath>

#include "base/error.h"

namespace smelt {

namespace {

struct Choice {
    Format format;
    uint64_t bytes;
    double loss;  // KL, as far as it can be foretold
};
struct Group {
    std::vector<const TensorView*> tensors;
    std::vector<Choice> choices = {};  // by size
    size_t chosen = 0;
};

class Allocation {
 public:
    Allocation(const ModelFile& model, const Sensitivity& sensitivity) {
        for (const TensorView& t : model.tensors) {
            if (!is_allocated(t)) {
                fixed_bytes_ += data_bytes(t.shape.size() < 2 ? Format::F32 : t.format, t.n_elements());
                continue;
            }
            groups_[group_name(t)].tensors.push_back(&t);
        }
        for (auto& [name, g] : groups_) {
            const auto measured = sensitivity.tensors.find(name);
            CHECK(measured != sensitivity.tensors.end(), "{}", name);
            set_choices(g, measured->second);
        }
    }

    FormatMap run(uint64_t n_bytes) {
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

    static void set_choices(Group& g, const Sensitivity::Tensor& s) {
        for (size_t c = 0; c < std::size(Sensitivity::candidates); ++c) {
            if (!fits(g, Sensitivity::candidates[c])) continue;
            uint64_t bytes = 0;
            for (const TensorView* t : g.tensors)
                bytes += data_bytes(Sensitivity::candidates[c], t->n_elements());
            // Where no product reads it, the error of a weight falls fourfold with each bit.
            const double bits = 8.0 * format_info(Sensitivity::candidates[c]).block_bytes /
                                format_info(Sensitivity::candidates[c]).block_len;
            const double share =
                s.errors.empty() || !(s.error > 0) ? std::exp2(2 * (3.4375 - bits)) : s.errors[c] / s.error;
            // A format that is larger and no better is no choice.
            if (!g.choices.empty() && s.kl * share >= g.choices.back().loss) continue;
            g.choices.push_back({Sensitivity::candidates[c], bytes, s.kl * share});
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

    std::map<std::string, Group> groups_;
    uint64_t fixed_bytes_ = 0;
};

}  // namespace

FormatMap allocate(const ModelFile& model, const Sensitivity& sensitivity, uint64_t n_bytes) {
    return Allocation(model, sensitivity).run(n_bytes);
}

}  // namespace smelt
