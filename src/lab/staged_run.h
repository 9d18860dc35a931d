// A model over windows of text, from product to product: all windows up to one product, then all up to the
// next. So what a product reads can be looked at for the whole text while one layer's inputs are in memory,
// and weights can be exchanged for others before what follows is computed.
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "engine/device_runner.h"
#include "lab/windows.h"

namespace smelt {

class StagedRun {
 public:
    // Borrows all three. Keys and values are float, the ops as the model records them, not fused.
    StagedRun(const Model& model, Backend& backend, const TextWindows& windows);

    struct Product {
        std::vector<const Weight*> weights;  // that read the same x; of experts, those of all products
        int64_t n_columns = 0;
        bool experts = false;
    };
    // Rows of what the product reads, (n_rows, n_columns), of one window.
    using Look = std::function<void(size_t window, std::span<const float> rows)>;
    // Up to the next product; false where there is none. With experts, a token's row comes once.
    bool advance(const Look& look);
    // The same in steps: begin(), every window once, finish(). Rows are valid until the next step.
    bool begin();
    std::span<const float> read_window(size_t window);
    void finish();
    const Product& product() const { return product_; }

    // What comes after advance() reads `by` where the record has `weight`; `by` outlives the run.
    void replace(const Weight* weight, const Weight* by) { replaced_[weight] = by; }

 private:
    void fill_input();
    std::vector<int> buffers_across(size_t op) const;
    void read_rows(const Tensor& x, std::vector<float>& rows);

    Backend& backend_;
    const TextWindows& windows_;
    DeviceRunner runner_;
    StepInput input_;
    Record record_;
    size_t next_ = 0;  // op that comes next
    // Of the stage that begin() made: its end, what it is computed by, what the product reads, live buffers.
    size_t end_ = 0;
    std::unique_ptr<Program> program_;
    Tensor x_;
    std::vector<int> live_;
    std::vector<float> rows_;
    Product product_;
    std::unordered_map<const Weight*, const Weight*> replaced_;
    std::vector<int> kept_;                                    // buffers that live between two stages
    std::vector<std::vector<std::vector<std::byte>>> states_;  // of each window, of each of them
};

}  // namespace smelt
