// Runs the beginnings of a record, one op longer each time, and compares the memory between them.
#include "backend/check/op_check.h"

#include <cmath>
#include <cstring>

#include "backend/check/bounds.h"

namespace smelt {

namespace {

// The one row of each block.
void put_states(RandomRecord& r, const MemoryState& state) {
    const size_t row = r.states->shape().block_bytes();
    for (int64_t b = 0; b < r.states->shape().n_blocks; ++b)
        r.states->write_block(static_cast<int32_t>(b),
                              std::span(state.states).subspan(static_cast<size_t>(b) * row, row));
}
void get_states(RandomRecord& r, MemoryState& state) {
    const size_t row = r.states->shape().block_bytes();
    state.states.resize(r.states->shape().n_bytes());
    for (int64_t b = 0; b < r.states->shape().n_blocks; ++b)
        r.states->read_block(static_cast<int32_t>(b),
                             std::span(state.states).subspan(static_cast<size_t>(b) * row, row));
}

void put(RandomRecord& r, const MemoryState& state) {
    for (size_t b = 0; b < state.buffers.size(); ++b)
        r.be.write(r.record.buffers()[b], state.buffers[b].data());
    const size_t block = r.kv->shape().block_bytes();
    for (int64_t b = 0; b < r.kv->shape().n_blocks; ++b)
        r.kv->write_block(static_cast<int32_t>(b),
                          std::span(state.kv).subspan(static_cast<size_t>(b) * block, block));
    put_states(r, state);
}

MemoryState get(RandomRecord& r) {
    MemoryState state;
    for (const Tensor& t : r.record.buffers()) {
        state.buffers.emplace_back(t.n_bytes());
        r.be.read(t, state.buffers.back().data());
    }
    const size_t block = r.kv->shape().block_bytes();
    state.kv.resize(r.kv->shape().n_bytes());
    for (int64_t b = 0; b < r.kv->shape().n_blocks; ++b)
        r.kv->read_block(static_cast<int32_t>(b),
                         std::span(state.kv).subspan(static_cast<size_t>(b) * block, block));
    get_states(r, state);
    return state;
}

bool is_store(const AnyOp& any) {
    return std::holds_alternative<op::StoreKv>(any) || std::holds_alternative<op::PrepareHeads>(any);
}

MemoryState run(RandomRecord& r, std::span<const AnyOp> ops, const MemoryState& before) {
    Record part = r.record.without_ops();
    part.set_ops({ops.begin(), ops.end()});
    const auto program = r.be.compile(part);
    put(r, before);
    r.be.launch(*program, r.input);
    r.be.collect();
    return get(r);
}

struct Comparison {
    const StepCounts& counts;
    MemoryState untouched;  // `before`, with what the op may write taken from after it
    std::string difference;

    template <class T>
    T* at(MemoryState& s, const Tensor& t, int64_t row) const {
        return reinterpret_cast<T*>(s.buffers[static_cast<size_t>(t.buffer)].data()) + row * t.row_stride;
    }

    void output(const OutputBound& o, MemoryState& got, MemoryState& expected) {
        const Tensor& t = o.tensor;
        for (int64_t r = 0, i = 0; r < counts.rows(t); ++r) {
            for (int64_t c = 0; c < t.row_len(); ++c, ++i) {
                const double bound = o.bound[static_cast<size_t>(i)];
                if (t.dtype == DType::I32) {
                    judge(t, r, c, at<int32_t>(got, t, r)[c], at<int32_t>(expected, t, r)[c], bound);
                } else {
                    judge(t, r, c, static_cast<double>(at<float>(got, t, r)[c]),
                          static_cast<double>(at<float>(expected, t, r)[c]), bound);
                }
            }
            std::memcpy(at<float>(untouched, t, r), at<float>(got, t, r),
                        static_cast<size_t>(t.row_len()) * sizeof(float));
        }
    }
    void judge(const Tensor& t, int64_t row, int64_t column, double got, double expected, double bound) {
        const bool same = got == expected || (std::isnan(got) && std::isnan(expected));
        if (same || std::isinf(bound) || std::fabs(got - expected) <= bound || !difference.empty()) return;
        difference = fmt::format("row {} of {}, column {} of {}: expected {:.9g}, got {:.9g}, bound {:.3g}",
                                 row, counts.rows(t), column, t.row_len(), expected, got, bound);
    }

    // Rows of the cache that this step has slots for; the others keep their bytes.
    void cache(RandomRecord& r, double bound, const MemoryState& got, const MemoryState& expected) {
        const KvShape& s = r.kv->shape();
        const std::span<int32_t> slots = r.input.of(r.record.inputs().slots);
        std::vector<float> a, b;
        const auto rows = [&](size_t first, Format f, int64_t dim) {
            const size_t row = data_bytes(f, dim);
            a.resize(static_cast<size_t>(dim));
            b.resize(a.size());
            for (int64_t i = 0; i < s.n_heads; ++i, first += row) {
                decode_row({f, got.kv.data() + first, nullptr, dim}, a);
                decode_row({f, expected.kv.data() + first, nullptr, dim}, b);
                for (size_t c = 0; c < a.size() && difference.empty(); ++c) {
                    const auto d = std::fabs(static_cast<double>(a[c]) - static_cast<double>(b[c]));
                    if (!(d <= bound * (1 + std::fabs(static_cast<double>(b[c])))) && a[c] != b[c])
                        difference =
                            fmt::format("cache at {}: expected {:.9g}, got {:.9g}", first, b[c], a[c]);
                }
                std::memcpy(untouched.kv.data() + first, got.kv.data() + first, row);
            }
        };
        for (int32_t t = 0; t < counts.n_tokens; ++t) {
            const int64_t slot = slots[static_cast<size_t>(t)];
            const size_t block = static_cast<size_t>(slot / s.block_len) * s.block_bytes();
            const size_t k_row = static_cast<size_t>(s.n_heads) * data_bytes(s.k_format, s.k_dim);
            const size_t v_row = static_cast<size_t>(s.n_heads) * data_bytes(s.v_format, s.v_dim);
            const auto offset = static_cast<size_t>(slot % s.block_len);
            rows(block + offset * k_row, s.k_format, s.k_dim);
            if (!s.v_in_k)
                rows(block + static_cast<size_t>(s.block_len) * k_row + offset * v_row, s.v_format, s.v_dim);
        }
    }

    void states(const std::vector<double>& bounds, const MemoryState& got, const MemoryState& expected) {
        const auto* a = reinterpret_cast<const float*>(got.states.data());
        const auto* b = reinterpret_cast<const float*>(expected.states.data());
        for (size_t i = 0; i < bounds.size() && difference.empty(); ++i) {
            const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
            if (d <= bounds[i] || std::isinf(bounds[i])) continue;
            difference = fmt::format("float {} of the states: expected {:.9g}, got {:.9g}, bound {:.3g}", i,
                                     b[i], a[i], bounds[i]);
        }
        if (bounds.empty() && got.states != expected.states)
            difference = "states that it does not write have changed";
    }

    void rest(const MemoryState& got) {
        if (!difference.empty()) return;
        for (size_t b = 0; b < got.buffers.size(); ++b) {
            if (got.buffers[b] == untouched.buffers[b]) continue;
            difference = fmt::format("memory that it does not write has changed, buffer {}", b);
        }
        if (got.kv != untouched.kv) difference = "rows of the cache that it does not write have changed";
    }
};

}  // namespace

std::string check_random_record(Backend& device, Backend& reference, RandomRecordOptions options,
                                const Choices& choices) {
    options.fusions = device.describe().fusions;
    RandomRecord tested(device, options, choices), expected(reference, options, choices);
    const MemoryState start{tested.contents, tested.kv_contents, tested.state_contents};
    MemoryState before = start;
    const std::span<const AnyOp> ops = tested.record.ops();
    for (size_t i = 0; i < ops.size(); ++i) {
        MemoryState after = run(tested, ops.first(i + 1), start);
        const AnyOp& op = expected.record.ops()[i];
        MemoryState right = run(expected, std::span(&op, 1), before);
        const OpBounds bounds = bounds_of(op, expected, before, right);
        Comparison c{tested.input.counts(), std::move(before), {}};
        for (const OutputBound& o : bounds.outputs) c.output(o, after, right);
        if (is_store(op)) c.cache(tested, bounds.kv, after, right);
        c.states(bounds.states, after, right);
        c.rest(after);
        if (!c.difference.empty())
            return fmt::format("op {} of {}, {}: {}", i + 1, ops.size(), print_op(op), c.difference);
        before = std::move(after);
    }
    return {};
}

}  // namespace smelt
