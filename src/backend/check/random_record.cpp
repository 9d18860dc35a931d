// Chooses shapes, weights, sequences and ops.
#include "backend/check/random_record.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "quant/random_weights.h"

namespace smelt {

std::span<const std::string_view> op_names() {
    static constexpr std::string_view names[] = {
#define X(name) #name,
        SMELT_OPS(X)
#undef X
    };
    return names;
}

bool may_have(const Fusions& fusions, std::string_view op) {
    if (op == "AddRmsNorm") return fusions.add_rms_norm;
    if (op == "PrepareHeads") return fusions.prepare_heads;
    return op != "GatedMatmul" || fusions.gated_matmul;
}

Choices::Choices(std::span<const uint8_t> bytes) : bytes_(bytes.begin(), bytes.end()) {
    uint64_t seed = 0xcbf29ce484222325u;  // FNV-1a
    for (const uint8_t b : bytes) seed = (seed ^ b) * 0x100000001b3u;
    random_.seed(seed);
}

int64_t Choices::below(int64_t n) {
    CHECK(n > 0);
    if (used_ < bytes_.size() && n <= 256) return bytes_[used_++] % n;
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(n));
}

// Box and Muller: libraries differ in std::normal_distribution.
float Choices::normal(float deviation) {
    const double u = (static_cast<double>(random_() >> 11) + 1) * 0x1p-53;
    const double v = static_cast<double>(random_() >> 11) * 0x1p-53;
    return static_cast<float>(std::sqrt(-2 * std::log(u)) * std::cos(6.283185307179586 * v)) * deviation;
}

StepShape RandomRecord::choose_shape(Choices& c, const RandomRecordOptions& o) {
    StepShape s;
    s.n_tokens = static_cast<int>(c.between(1, 20));
    s.n_seqs = static_cast<int>(c.between(1, std::min(s.n_tokens, 5)));
    s.n_logits = static_cast<int>(c.between(1, s.n_tokens));
    s.n_hidden = static_cast<int>(c.between(1, s.n_tokens));
    s.max_blocks = static_cast<int>(c.between(1, 4));
    s.draws = o.op == "Sample";
    if (s.draws) {
        s.n_edits = static_cast<int>(c.below(9));
        s.mask_words = c.below(2) == 0 ? 0 : 5;
    }
    return s.bounds();
}

RandomRecord::RandomRecord(Backend& backend, const RandomRecordOptions& options, Choices choices)
    : be(backend),
      record(choose_shape(choices, options)),
      options_(options),
      c_(std::move(choices)),
      format_(options.format
                  ? *options.format
                  : all_formats()[static_cast<size_t>(c_.below(static_cast<int64_t>(all_formats().size())))]
                        .format) {
    head_dim_ = c_.one_of<int64_t>({32, 64, 96, 128});
    n_kv_heads_ = c_.between(1, 3);
    n_rep_ = c_.one_of<int64_t>({1, 2, 3, 4, 8});
    n_experts_ = c_.between(1, 12);
    n_used_ = c_.between(1, std::min<int64_t>(n_experts_, 4));
    fill_input();
    fill_kv();
    fill_states();
    CHECK(options_.op.empty() || may_have(options_.fusions, options_.op), "{}", options_.op);
    for (int i = 0; i < options_.n_ops; ++i) {
        std::string_view name = options_.op;
        // What draws reads inputs that only records of its own have.
        while (name.empty() || (name == "Sample" && options_.op.empty()) || !may_have(options_.fusions, name))
            name = op_names()[static_cast<size_t>(c_.below(static_cast<int64_t>(op_names().size())))];
        add(name);
    }
}

int64_t RandomRecord::most(RowsOf rows_of) const {
    const StepShape& s = record.shape();
    return StepCounts{
        .n_tokens = s.n_tokens, .n_seqs = s.n_seqs, .n_logits = s.n_logits, .n_hidden = s.n_hidden}
        .of(rows_of);
}

// Sequences with a past, each with blocks of its own in any order; some rows of the step's class are not
// used.
void RandomRecord::fill_input() {
    const StepShape& s = record.shape();
    input.reset(s);
    const InputTensors& in = record.inputs();
    std::memset(input.of<std::byte>(in.ids).data() - in.ids.offset, 0, in.n_bytes);
    StepCounts& n = input.counts();
    n.n_tokens = static_cast<int32_t>(c_.between(1, s.n_tokens));
    n.n_seqs = static_cast<int32_t>(c_.between(1, std::min(n.n_tokens, s.n_seqs)));
    n.n_logits = static_cast<int32_t>(c_.between(1, std::min(n.n_tokens, s.n_logits)));
    n.n_hidden = static_cast<int32_t>(c_.between(1, std::min(n.n_tokens, s.n_hidden)));
    n.n_generated = static_cast<int32_t>(c_.below(n.n_tokens + 1));

    const int64_t block_len = c_.one_of<int64_t>({4, 16, 32});
    const auto k = c_.below(std::size(kv_formats)), v = c_.below(std::size(kv_formats));
    KvShape shape{.k_format = kv_formats[k],
                  .v_format = kv_formats[v],
                  .n_blocks = static_cast<int64_t>(s.n_seqs) * s.max_blocks,
                  .block_len = block_len,
                  .n_heads = n_kv_heads_,
                  .k_dim = head_dim_,
                  .v_dim = head_dim_};
    // Rounded keys of a fused op may lie a step of the format apart: formats whose steps are simple.
    if (options_.op.empty() || options_.op == "PrepareHeads")
        shape.k_format = shape.v_format = c_.one_of({Format::F32, Format::F16, Format::BF16});
    if (options_.op == "Attention" && c_.below(4) == 0) {
        shape.v_in_k = true;
        shape.v_format = shape.k_format;
        shape.v_dim = 32;
    }
    kv = be.allocate_kv(shape);

    std::vector<int32_t> order(static_cast<size_t>(shape.n_blocks));
    std::iota(order.begin(), order.end(), 0);
    for (size_t i = order.size(); i > 1; --i)
        std::swap(order[i - 1], order[static_cast<size_t>(c_.below(static_cast<int64_t>(i)))]);
    int32_t token = 0;
    const auto room = static_cast<int32_t>(s.max_blocks * block_len);
    for (int32_t i = 0; i < n.n_seqs; ++i) {
        const int32_t others = n.n_seqs - i - 1, left = n.n_tokens - token;
        int32_t n_new = others == 0 ? left : static_cast<int32_t>(c_.between(1, left - others));
        if (n_new > room) {  // more than the sequence has room for: the step has fewer tokens
            if (others == 0) n.n_tokens -= n_new - room;
            n_new = room;
        }
        const auto past = static_cast<int32_t>(c_.between(0, room - n_new));
        const auto blocks = std::span(order).subspan(static_cast<size_t>(i * s.max_blocks),
                                                     static_cast<size_t>(s.max_blocks));
        std::ranges::copy(blocks, input.of(in.block_table).begin() + i * s.max_blocks);
        for (int32_t j = 0; j < n_new; ++j, ++token) {
            const int32_t position = past + j;
            const auto t = static_cast<size_t>(token);
            input.of(in.ids)[t] = static_cast<int32_t>(c_.below(vocab_rows));
            input.of(in.positions)[t] = position;
            input.of(in.slots)[t] = static_cast<int32_t>(
                blocks[static_cast<size_t>(position / block_len)] * block_len + position % block_len);
        }
        input.of(in.seq_start)[static_cast<size_t>(i) + 1] = token;
        n.max_kv_len = std::max(n.max_kv_len, past + n_new);
    }
    n.n_logits = std::min(n.n_logits, n.n_tokens);
    n.n_hidden = std::min(n.n_hidden, n.n_tokens);
    n.n_generated = std::min(n.n_generated, n.n_tokens);
    const auto rows = [&](const Tensor& t, int32_t count) {
        for (int32_t i = 0; i < count; ++i) input.of(t)[static_cast<size_t>(i)] = n.n_tokens - count + i;
    };
    rows(in.logits_rows, n.n_logits);
    rows(in.hidden_rows, n.n_hidden);
}

void RandomRecord::fill_kv() {
    const KvShape& s = kv->shape();
    std::vector<float> row;
    const auto put = [&](std::byte*& to, Format f, int64_t dim) {
        row.resize(static_cast<size_t>(dim));
        for (float& x : row) x = c_.normal();
        encode_row(f, row, to, nullptr);
        to += data_bytes(f, dim);
    };
    kv_contents.resize(s.n_bytes());
    std::byte* to = kv_contents.data();
    for (int64_t b = 0; b < s.n_blocks; ++b) {
        for (int64_t i = 0; i < s.block_len * s.n_heads; ++i) put(to, s.k_format, s.k_dim);
        for (int64_t i = 0; !s.v_in_k && i < s.block_len * s.n_heads; ++i) put(to, s.v_format, s.v_dim);
    }
}

void RandomRecord::fill_states() {
    states = be.allocate_kv({.k_format = Format::F32,
                             .v_format = Format::F32,
                             .n_blocks = kv->shape().n_blocks,
                             .block_len = 1,
                             .n_heads = 1,
                             .k_dim = state_floats,
                             .v_dim = state_floats,
                             .v_in_k = true});
    state_contents.resize(states->shape().n_bytes());
    auto* to = reinterpret_cast<float*>(state_contents.data());
    for (size_t i = 0; i < state_contents.size() / sizeof(float); ++i) to[i] = c_.normal();
}

namespace {

int64_t row_len_of(const std::vector<int64_t>& row) {
    return std::accumulate(row.begin(), row.end(), int64_t{1}, std::multiplies<>());
}

void set_row(Tensor& t, int64_t n_rows, const std::vector<int64_t>& row) {
    t.rank = static_cast<int>(row.size()) + 1;
    t.shape = {n_rows, 0, 0, 0};
    std::copy(row.begin(), row.end(), t.shape.begin() + 1);
}

}  // namespace

Tensor RandomRecord::take(DType type, RowsOf rows_of, int64_t each, std::vector<int64_t> row, int64_t gap) {
    Tensor t = record.take(type, rows_of, {most(rows_of) * each, row_len_of(row) + gap}, each);
    std::vector<float> filler(static_cast<size_t>(t.n_elements()), untouched);
    std::vector<std::byte>& bytes = contents.emplace_back(t.n_bytes());
    std::memcpy(bytes.data(), filler.data(), bytes.size());
    set_row(t, t.n_rows(), row);
    in_use_.push_back(t.buffer);
    return t;
}

std::optional<Tensor> RandomRecord::left_over(RowsOf rows_of, int64_t each, const std::vector<int64_t>& row,
                                              int64_t gap) {
    const int64_t n_rows = most(rows_of) * each, stride = row_len_of(row) + gap;
    std::vector<Tensor> fitting;
    for (const Tensor& t : record.buffers()) {
        if (t.n_elements() >= n_rows * stride && std::ranges::find(in_use_, t.buffer) == in_use_.end())
            fitting.push_back(t);
    }
    if (fitting.empty()) return std::nullopt;
    Tensor t = fitting[static_cast<size_t>(c_.below(static_cast<int64_t>(fitting.size())))];
    std::erase_if(live_, [&](const Live& l) { return l.tensor.buffer == t.buffer; });
    std::erase_if(routed_, [&](const Tensor& r) { return r.buffer == t.buffer; });
    t.dtype = DType::F32;
    t.rows_of = rows_of;
    t.rows_each = each;
    t.row_stride = stride;
    set_row(t, n_rows, row);
    in_use_.push_back(t.buffer);
    return t;
}

Tensor RandomRecord::empty(std::vector<int64_t> row, RowsOf rows_of, int64_t each) {
    const int64_t gap = c_.below(4);
    if (c_.below(2) == 0) {
        if (const auto t = left_over(rows_of, each, row, gap)) return *t;
    }
    return take(DType::F32, rows_of, each, std::move(row), gap);
}

Tensor RandomRecord::fresh(std::vector<int64_t> row, RowsOf rows_of, int64_t each, float deviation) {
    const Tensor t = take(DType::F32, rows_of, each, std::move(row), c_.below(4));
    auto* to = reinterpret_cast<float*>(contents[static_cast<size_t>(t.buffer)].data());
    for (int64_t r = 0; r < t.n_rows(); ++r) {
        for (int64_t i = 0; i < t.row_len(); ++i) to[r * t.row_stride + i] = c_.normal(deviation);
    }
    return t;
}

// Dense; each row has different numbers where there are enough of them.
Tensor RandomRecord::ints(int64_t row, int64_t end) {
    const Tensor t = take(DType::I32, RowsOf::tokens, 1, {row}, 0);
    auto* to = reinterpret_cast<int32_t*>(contents[static_cast<size_t>(t.buffer)].data());
    for (int64_t r = 0; r < t.n_rows(); ++r) {
        const int64_t first = c_.below(end);
        for (int64_t i = 0; i < row; ++i) to[r * row + i] = static_cast<int32_t>((first + i) % end);
    }
    return t;
}

Tensor RandomRecord::given(std::vector<int64_t> row, RowsOf rows_of, int64_t each) {
    const int64_t row_len = row_len_of(row);
    std::vector<const Live*> fitting;
    for (const Live& l : live_) {
        if (l.tensor.rows_of == rows_of && l.tensor.rows_each == each && l.tensor.row_len() == row_len &&
            l.magnitude <= max_magnitude)
            fitting.push_back(&l);
    }
    if (fitting.empty() || c_.below(4) == 0) {
        input_magnitude_ = std::max(input_magnitude_, 1);
        return fresh(std::move(row), rows_of, each);
    }
    const Live& chosen = *fitting[static_cast<size_t>(c_.below(static_cast<int64_t>(fitting.size())))];
    input_magnitude_ = std::max(input_magnitude_, chosen.magnitude);
    Tensor t = chosen.tensor;
    set_row(t, t.n_rows(), row);
    in_use_.push_back(t.buffer);
    return t;
}

Tensor RandomRecord::other_than(const Tensor& x, std::vector<int64_t> row) {
    const Tensor t = given(row);
    return t.buffer == x.buffer ? fresh(std::move(row)) : t;
}

void RandomRecord::made(const Tensor& t, int more_magnitude) {
    for (Live& l : live_) {
        if (l.tensor.buffer == t.buffer) l.magnitude = input_magnitude_ + more_magnitude;
    }
    live_.push_back({t, input_magnitude_ + more_magnitude});
}

const Weight* RandomRecord::load(Format f, int64_t rows, int64_t cols, WeightUse use, float deviation) {
    const int64_t n = rows * cols;
    Bytes& b = bytes_.emplace_back(
        Bytes{std::vector<std::byte>(data_bytes(f, n)), std::vector<std::byte>(scale_bytes(f, n))});
    random_row(f, n, c_.bits(), deviation, b.data.data(), b.scales.data());
    const WeightView view{.format = f, .rows = rows, .cols = cols, .data = b.data, .scales = b.scales};
    weights_.push_back(be.load(view, {.use = use}));
    views[&weights_.back()] = view;
    return &weights_.back();
}

const Weight* RandomRecord::negative_vector(int64_t n) {
    Bytes& b = bytes_.emplace_back(Bytes{std::vector<std::byte>(static_cast<size_t>(n) * sizeof(float)), {}});
    auto* to = reinterpret_cast<float*>(b.data.data());
    for (int64_t i = 0; i < n; ++i) to[i] = -std::exp2(static_cast<float>(c_.between(-4, 4)));
    const WeightView view{.format = Format::F32, .rows = 1, .cols = n, .data = b.data, .scales = {}};
    weights_.push_back(be.load(view, {.use = WeightUse::vector}));
    views[&weights_.back()] = view;
    return &weights_.back();
}

WeightList RandomRecord::list(int64_t n, int64_t rows, int64_t cols) {
    std::vector<const Weight*> all;
    while (n-- > 0) all.push_back(matrix(rows, cols));
    return record.keep(std::move(all));
}

int64_t RandomRecord::width() {
    const int64_t block = format_info(format_).block_len;
    if (block == 1) return c_.one_of<int64_t>({1, 3, 32, 65, 96, 257});
    return block * c_.between(1, block >= 256 ? 2 : 9);
}

}  // namespace smelt
