// Compiles the ops of a record into commands: pipelines are found, arguments filled in and memory counted
// once, so that a step has only to encode them.
#pragma once

#include <algorithm>
#include <array>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "backend/metal/step_encoder.h"

namespace smelt::metal {

// A part of a program: one op, or several neighbours of an op that are dispatched together.
class Command {
 public:
    virtual ~Command() = default;
    virtual void encode(StepEncoder& step) const = 0;
};

struct MetalProgram : Program {
    explicit MetalProgram(const Record& r) : record(r), results(r.results) {}
    const Record record;
    const PackedResults results;
    std::vector<std::unique_ptr<Command>> commands;
    std::vector<int> op_of_command;  // its place in the record
};

// A kernel with the same arguments in every step, and a row of threadgroups for each row that `rows` has.
template <class Args>
struct RowsCommand : Command {
    RowsCommand(const MTL::ComputePipelineState& k, const Args& a, std::initializer_list<Binding> b,
                const Tensor& r, const Grid& g)
        : kernel(k), args(a), buffers(b), rows(r), grid(g) {}
    void encode(StepEncoder& step) const override {
        Grid g = grid;
        g.groups.height = u32(step.rows(rows));
        step.dispatch(kernel, args, buffers, g);
    }
    const MTL::ComputePipelineState& kernel;
    Args args;
    std::vector<Binding> buffers;
    Tensor rows;
    Grid grid;
};

// Whether rows of floats can be read 16 bytes at a time.
inline bool is_aligned(const Tensor& t) {
    return t.offset % 16 == 0 && t.row_stride % 4 == 0;
}

class Compiler {
 public:
    // matrices_add_in_order: whether products of simdgroup matrices have the bits of the other kernels.
    Compiler(Gpu& gpu, bool matrices_add_in_order)
        : gpu_(gpu), matrices_add_in_order_(matrices_add_in_order) {}

    // One of each for every op.
#define X(Op) void add(const op::Op& op);
    SMELT_OPS(X)
#undef X

    size_t n_commands() const {
        return commands_.size();
    }
    std::vector<std::unique_ptr<Command>> take_commands() {
        return std::move(commands_);
    }
    // Bytes that the commands need of a shared buffer.
    size_t needs(Shared s) const {
        return needs_[static_cast<size_t>(s)];
    }

 private:
    // For the commands of one op: what it holds is open when the next one begins.
    Binding shared(Shared s, size_t bytes) {
        size_t& n = needs_[static_cast<size_t>(s)];
        n = std::max(n, bytes);
        return {nullptr, 0, s};
    }
    template <class Args>
    void add_rows(const std::string& kernel, const Args& args, std::initializer_list<Binding> buffers,
                  const Tensor& rows, const Grid& grid) {
        commands_.push_back(
            std::make_unique<RowsCommand<Args>>(gpu_.pipeline(kernel), args, buffers, rows, grid));
    }
    void add_groups(const Tensor& ids, int64_t n_experts);
    void add_experts(const Tensor& x, const Tensor& ids,
                     std::span<const op::MatmulExperts::Product> products);

    Gpu& gpu_;
    bool matrices_add_in_order_;
    Tensor grouped_;  // the expert ids that Shared::groups was built from
    std::vector<std::unique_ptr<Command>> commands_;
    std::array<size_t, n_shared> needs_{};
};

}  // namespace smelt::metal
