// Pads the matrices of adapters to one rank and sorts them by the matrix that they change.
#include "model/adapter_table.h"

#include <algorithm>

#include "base/error.h"

namespace smelt {

namespace {

std::vector<float> padded(const float* from, int64_t rows, int64_t cols, int64_t new_rows, int64_t new_cols,
                          float scale) {
    std::vector<float> to(static_cast<size_t>(new_rows * new_cols));
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c)
            to[static_cast<size_t>(r * new_cols + c)] = scale * from[r * cols + c];
    }
    return to;
}

bool names(const Record& record, const Weight* a) {
    return std::ranges::any_of(record.ops(), [&](const AnyOp& any) {
        const auto* op = std::get_if<op::MatmulExperts>(&any);
        return op != nullptr &&
               std::ranges::find(op->products[0].experts, a) != op->products[0].experts.end();
    });
}

}  // namespace

const Weight* AdapterTable::load(std::vector<float> values, int64_t rows, int64_t cols, Slot& to) {
    const std::vector<float>& kept = to.values.emplace_back(std::move(values));
    to.weights.push_back(
        backend_.load({Format::F32, rows, cols, std::as_bytes(std::span(kept)), {}}, {.expert = true}));
    return &to.weights.back();
}

const Weight* AdapterTable::zeros(int64_t rows, int64_t cols) {
    const Weight*& known = zeros_by_shape_[{rows, cols}];
    if (known == nullptr)
        known = load(std::vector<float>(static_cast<size_t>(rows * cols)), rows, cols, zeros_);
    return known;
}

void AdapterTable::set(int number, const Adapter& adapter) {
    CHECK(number > 0 && number <= n(), "adapter {} of {}", number, n());
    Slot slot;
    const std::string source = adapter.path.string();
    for (const LowRank& u : adapter.updates) {
        if (u.rank > rank_)
            throw Error("{}: {}: expected a rank of 1 to {} (--max-lora-rank), found {}", source, u.tensor,
                        rank_, u.rank);
        const auto found = model_.places().find(u.tensor);
        if (found == model_.places().end())
            throw Error("{}: {}: cannot be adapted while the model runs; smelt convert --lora merges it",
                        source, u.tensor);
        const int64_t cols = found->second.front().cols;
        const Weight* a = load(padded(u.a.data(), u.rank, cols, rank_, cols, 1), rank_, cols, slot);
        for (const MatrixPlace& p : found->second) {
            const float* rows = u.b.data() + p.first * u.rank;
            const Weight* b = load(padded(rows, p.rows, u.rank, p.rows, rank_, u.scale), p.rows, rank_, slot);
            slot.updates.push_back({u.tensor, p, a, b});
        }
    }
    std::swap(slots_[static_cast<size_t>(number)], slot);
    join();
}

void AdapterTable::clear(int number) {
    slots_[static_cast<size_t>(number)] = {};
    join();
}

// Zeros are loaded anew, as the first of every list: what a device keeps for a list of weights is kept with
// its first one, and known by addresses, which weights that have gone leave to others.
void AdapterTable::join() {
    products_.clear();
    zeros_by_shape_.clear();
    zeros_ = {};
    for (size_t number = 1; number < slots_.size(); ++number) {
        for (const Update& u : slots_[number].updates) {
            AdaptedProduct& p = products_[u.place.storage];
            if (p.a.empty()) {
                p.a.assign(slots_.size(), zeros(rank_, u.place.cols));
                p.b.assign(slots_.size(), zeros(u.place.rows, rank_));
            }
            p.a[number] = u.a;
            p.b[number] = u.b;
        }
    }
}

std::string AdapterTable::missing_in(const Record& record, int number) const {
    for (const Update& u : slots_[static_cast<size_t>(number)].updates) {
        const AdaptedProduct& p = products_.at(u.place.storage);
        if (!names(record, p.a[static_cast<size_t>(number)])) return u.tensor;
    }
    return {};
}

}  // namespace smelt
