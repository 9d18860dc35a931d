// The record in pieces. Between two of them, each window's live buffers are kept on the host.
#include "lab/staged_run.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <variant>

namespace smelt {

namespace {

StepShape shape_of(const TextWindows& windows, int n_blocks) {
    return StepShape{.n_tokens = windows.length,
                     .n_seqs = 1,
                     .n_logits = windows.length,
                     .every_logit = true,
                     .max_blocks = n_blocks,
                     .all_logits = true}
        .bounds();
}

struct Use {
    bool written = false, read = false;
};

// How an op uses a buffer.
Use use_of(const AnyOp& any, int buffer) {
    Use use;
    const auto look = [&]<class... Args>(Args&&... args) {
        if constexpr (sizeof...(Args) == 3) {
            const auto tuple = std::forward_as_tuple(args...);
            const Tensor& t = std::get<2>(tuple);
            if (!t || t.space != Space::workspace || t.buffer != buffer) return;
            const op::Access access = std::get<0>(tuple);
            use.written |= access != op::Access::read;
            use.read |= access != op::Access::write;
        }
    };
    std::visit([&](const auto& op) { op.fields(op, look); }, any);
    return use;
}

bool is_product(const AnyOp& any) {
    return std::holds_alternative<op::Matmul>(any) || std::holds_alternative<op::MatmulExperts>(any);
}

}  // namespace

StagedRun::StagedRun(const Model& model, Backend& backend, const TextWindows& windows)
    : backend_(backend),
      windows_(windows),
      runner_(model, backend,
              {.n_ctx = windows.length, .kv = {Format::F32, Format::F32}, .fuse = Fuse::nothing}),
      record_(runner_.record(shape_of(windows, runner_.shape().n_blocks))),
      states_(windows.n()) {
    record_.results = {};
}

void StagedRun::fill_input() {
    input_.reset(record_.shape());
    const InputTensors& in = input_.tensors();
    const int n = windows_.length;
    input_.counts() = {.n_tokens = n, .n_seqs = 1, .n_logits = n, .max_kv_len = n};
    // Blocks are in order, so that a token's slot is its position.
    for (const Tensor& t : {in.positions, in.slots, in.logits_rows}) {
        std::iota(input_.of(t).begin(), input_.of(t).begin() + n, 0);
    }
    input_.of(in.seq_start)[0] = 0;
    input_.of(in.seq_start)[1] = n;
    std::iota(input_.of(in.block_table).begin(), input_.of(in.block_table).begin() + runner_.shape().n_blocks,
              0);
}

// Buffers that ops before this one wrote and that it or a later one reads.
std::vector<int> StagedRun::buffers_across(size_t at) const {
    std::vector<int> live;
    const auto ops = record_.ops();
    for (int b = 0; b < static_cast<int>(record_.buffers().size()); ++b) {
        const auto uses = [&](size_t i) { return use_of(ops[i], b); };
        bool written = false, read = false;
        for (size_t i = 0; i < at; ++i) written |= uses(i).written;
        for (size_t i = at; written && i < ops.size(); ++i) read |= uses(i).read;
        if (read) live.push_back(b);
    }
    return live;
}

void StagedRun::read_rows(const Tensor& x, std::vector<float>& rows) {
    const Tensor& whole = record_.buffers()[static_cast<size_t>(x.buffer)];
    std::vector<float> all(static_cast<size_t>(whole.n_elements()));
    backend_.read(whole, all.data());
    const auto n_rows = static_cast<size_t>(input_.counts().rows(x)), n = static_cast<size_t>(x.row_len());
    rows.resize(n_rows * n);
    const size_t first = (x.offset - whole.offset) / sizeof(float);
    for (size_t r = 0; r < n_rows; ++r) {
        const float* from = all.data() + first + r * static_cast<size_t>(x.row_stride);
        std::copy(from, from + n, rows.begin() + static_cast<std::ptrdiff_t>(r * n));
    }
}

bool StagedRun::advance(const Look& look) {
    if (!begin()) return false;
    for (size_t w = 0; w < windows_.n(); ++w) look(w, read_window(w));
    finish();
    return true;
}

bool StagedRun::begin() {
    const auto ops = record_.ops();
    size_t end =
        next_ == 0 ? 0 : next_ + 1;  // the product before goes along, with its weights as they now are
    while (end < ops.size() && !is_product(ops[end])) ++end;
    if (end == ops.size()) return false;

    std::vector<AnyOp> part(ops.begin() + static_cast<std::ptrdiff_t>(next_),
                            ops.begin() + static_cast<std::ptrdiff_t>(end));
    for (AnyOp& any : part) {
        const auto exchange = [&]<class... Args>(Args&&... args) {
            if constexpr (sizeof...(Args) == 2) {
                auto&& value = std::get<1>(std::forward_as_tuple(args...));
                if constexpr (std::is_same_v<std::remove_reference_t<decltype(value)>, const Weight*>) {
                    const auto found = replaced_.find(value);
                    if (found != replaced_.end()) value = found->second;
                }
            }
        };
        std::visit([&](auto& op) { op.fields(op, exchange); }, any);
    }
    Record stage = record_.without_ops();
    stage.set_ops(std::move(part));
    program_ = backend_.compile(stage);

    product_ = {};
    const auto take = [&](const auto& op) {
        x_ = op.x;
        product_.n_columns = op.x.shape[static_cast<size_t>(op.x.rank - 1)];
        for (const auto& p : op.all()) {
            if constexpr (requires { p.w; }) {
                product_.weights.push_back(p.w);
            } else {
                product_.experts = true;
                product_.weights.insert(product_.weights.end(), p.experts.begin(), p.experts.end());
            }
        }
    };
    if (const auto* m = std::get_if<op::Matmul>(&ops[end])) take(*m);
    if (const auto* m = std::get_if<op::MatmulExperts>(&ops[end])) take(*m);

    live_ = buffers_across(end);
    end_ = end;
    return true;
}

std::span<const float> StagedRun::read_window(size_t w) {
    for (size_t i = 0; i < kept_.size(); ++i) {
        backend_.write(record_.buffers()[static_cast<size_t>(kept_[i])], states_[w][i].data());
    }
    fill_input();
    std::ranges::copy(windows_.window(w), input_.of(input_.tensors().ids).begin());
    backend_.launch(*program_, input_);
    backend_.collect();
    read_rows(x_, rows_);
    states_[w].resize(live_.size());
    for (size_t i = 0; i < live_.size(); ++i) {
        const Tensor& t = record_.buffers()[static_cast<size_t>(live_[i])];
        states_[w][i].resize(t.n_bytes());
        backend_.read(t, states_[w][i].data());
    }
    return rows_;
}

void StagedRun::finish() {
    kept_ = live_;
    next_ = end_;
}

}  // namespace smelt
