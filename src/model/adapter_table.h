// LoRA adapters on a device, by number: the matrices that a step adds to those of the model. Knows no
// requests.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "files/adapter.h"
#include "model/model.h"

namespace smelt {

class AdapterTable {
 public:
    // Numbers 1 to n; ranks up to `rank`. All matrices have that many rows or columns, the others zeros: an
    // adapter's bits do not depend on which others there are. Borrows model and backend.
    AdapterTable(const Model& model, Backend& backend, int n, int64_t rank)
        : model_(model), backend_(backend), rank_(rank), slots_(static_cast<size_t>(n) + 1) {}

    int n() const { return static_cast<int>(slots_.size()) - 1; }
    bool empty() const { return products_.empty(); }
    // While no step is under way whose record names adapters, as clear(). Throws Error, and nothing has
    // changed, where a tensor cannot be adapted or its rank is beyond the table's.
    void set(int number, const Adapter& adapter);
    void clear(int number);
    const AdaptedProducts& products() const { return products_; }
    // The first of the adapter's tensors that the record does not apply; empty: it applies all.
    std::string missing_in(const Record& record, int number) const;

 private:
    struct Update {
        std::string tensor;
        MatrixPlace place;
        const Weight *a = nullptr, *b = nullptr;
    };
    struct Slot {
        std::deque<std::vector<float>> values;  // weights may alias them
        std::deque<Weight> weights;
        std::vector<Update> updates;
    };

    const Weight* load(std::vector<float> values, int64_t rows, int64_t cols, Slot& to);
    const Weight* zeros(int64_t rows, int64_t cols);
    void join();

    const Model& model_;
    Backend& backend_;
    int64_t rank_;
    std::vector<Slot> slots_;  // by number; 0 is none
    Slot zeros_;
    std::map<std::pair<int64_t, int64_t>, const Weight*> zeros_by_shape_;
    AdaptedProducts products_;
};

}  // namespace smelt
