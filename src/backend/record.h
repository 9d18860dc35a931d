// A step as data: ops in order, the workspace that their tensors lie in, and what comes back. A value that
// can be walked, printed, compared, hashed, cut into parts and compiled.
#pragma once

#include <deque>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/op.h"

namespace smelt {

class Record {
 public:
    explicit Record(const StepShape& shape) : shape_(shape), inputs_(shape) {}

    const StepShape& shape() const { return shape_; }
    const InputTensors& inputs() const { return inputs_; }

    template <class Op>
    void add(const Op& op) {
        ops_.emplace_back(op);
    }
    std::span<const AnyOp> ops() const { return ops_; }
    std::span<AnyOp> ops() { return ops_; }
    void set_ops(std::vector<AnyOp> ops) { ops_ = std::move(ops); }
    // The same workspace, inputs and results without the ops.
    Record without_ops() const;

    // A dense tensor of the workspace, in a buffer of its own; shape[0] is the most rows. It lasts until
    // reset() goes back to a mark() from before: workspace is handed out in order and taken back in reverse.
    Tensor take(DType dtype, RowsOf rows_of, std::initializer_list<int64_t> shape, int64_t rows_each = 1);
    size_t mark() const { return used_; }
    void reset(size_t mark) { used_ = mark; }
    size_t workspace_bytes() const { return workspace_bytes_; }
    // What take() handed out, by number: Tensor::buffer.
    std::span<const Tensor> buffers() const { return buffers_; }

    // Keeps a list of weights for as long as the record or a copy of it lives.
    WeightList keep(std::vector<const Weight*> list);

    // Empty tensors: not asked for.
    struct Results {
        Tensor tokens, logprobs, log_sums, top_ids, top_logits, logits, hidden;
        bool operator==(const Results&) const = default;
    };
    Results results;

    // One op a line.
    std::string print() const;
    // The same ops over the same tensors, weights and parameters.
    bool operator==(const Record& other) const;
    size_t hash() const;

 private:
    StepShape shape_;
    InputTensors inputs_;
    std::vector<AnyOp> ops_;
    std::shared_ptr<std::deque<std::vector<const Weight*>>> lists_;
    std::vector<Tensor> buffers_;
    size_t used_ = 0, workspace_bytes_ = 0;
};

// The results of a step where the workspace is memory that the host can read.
StepResult result_of(const Record::Results& results, const std::byte* workspace, const StepCounts& counts);

// The results one behind the other in memory of their own, for devices on which the next step may overwrite
// the workspace before they are read.
class PackedResults {
 public:
    explicit PackedResults(const Record::Results& from);

    const Record::Results& tensors() const { return tensors_; }  // in that memory
    size_t n_bytes() const { return n_bytes_; }
    // f(offset in the workspace, offset in that memory, bytes): what this step has to copy.
    template <class F>
    void each_copy(const StepCounts& counts, F f) const {
        for (const auto& [from, to] : copies_) {
            const auto bytes =
                static_cast<size_t>(counts.rows(from) * from.row_len()) * dtype_bytes(from.dtype);
            if (bytes > 0) f(from.offset, to, bytes);
        }
    }

 private:
    Record::Results tensors_;
    std::vector<std::pair<Tensor, size_t>> copies_;
    size_t n_bytes_ = 0;
};

// "RmsNorm out=[512 tokens, 1024] x=... eps=1e-06"
std::string print_op(const AnyOp& op);

// Bytes that an op moves in a step: weights and tensors, read and written, once each. Experts: those that are
// chosen at most. For the share of bandwidth that an op reaches.
size_t bytes_of(const AnyOp& op, const StepCounts& counts);
// Multiplications and additions. Attention: as if every token saw the longest sequence.
double flops_of(const AnyOp& op, const StepCounts& counts);

}  // namespace smelt
