// Builds inputs on any backend and judges results; the tests themselves are beside it.
#include "conformance/rig.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "quant/random_weights.h"

namespace smelt {

namespace {

constexpr size_t misalignment = 1;  // byte; mapped files promise nothing

}  // namespace

std::vector<Device> make_devices(int n_threads, bool repack) {
    std::vector<Device> result;
    const char* only = std::getenv("SMELT_TEST_DEVICE");
    for (const BackendInfo& info : list_backends()) {
        if (!info.missing.empty() || info.name == "reference" || (only != nullptr && info.name != only))
            continue;
        if (info.name != "cpu") {
            result.push_back({info.name, make_backend(info.name, {.n_threads = n_threads, .isa = ""})});
            continue;
        }
        for (const char* isa : {"avx512", "avx2", "neon_dotprod", "neon", "portable"}) {
            try {
                result.push_back(
                    {std::string("cpu ") + isa,
                     make_backend("cpu", {.n_threads = n_threads, .isa = isa, .repack = repack})});
            } catch (const Error&) {
                continue;  // not in this build, or not in this processor
            }
        }
    }
    CHECK(!result.empty(), "no device {}", only == nullptr ? "" : only);
    return result;
}

const std::vector<Device>& devices() {
    static const std::vector<Device> all = make_devices(3);
    return all;
}

Backend& reference() {
    static const std::unique_ptr<Backend> backend = make_reference_backend();
    return *backend;
}

std::vector<float> normal(int64_t n, unsigned seed, float deviation) {
    std::mt19937 random(seed);
    std::normal_distribution<float> distribution(0, deviation);
    std::vector<float> x(static_cast<size_t>(n));
    for (float& v : x) v = distribution(random);
    return x;
}

WeightView EncodedWeight::view() const {
    const std::span<const std::byte> d(data), s(scales);
    return {format, rows, cols, d.subspan(misalignment), s.empty() ? s : s.subspan(misalignment)};
}

std::vector<float> EncodedWeight::decoded() const {
    std::vector<float> out(static_cast<size_t>(rows * cols));
    const WeightView v = view();
    decode_row({format, v.data.data(), v.scales.data(), rows * cols}, out);
    return out;
}

namespace {

EncodedWeight empty_weight(Format f, int64_t rows, int64_t cols) {
    const size_t scales = scale_bytes(f, rows * cols);
    return {f, rows, cols, std::vector<std::byte>(data_bytes(f, rows * cols) + misalignment),
            std::vector<std::byte>(scales == 0 ? 0 : scales + misalignment)};
}

}  // namespace

EncodedWeight random_weight(Format f, int64_t rows, int64_t cols, unsigned seed) {
    EncodedWeight w = empty_weight(f, rows, cols);
    random_row(f, rows * cols, seed, 0.05f, w.data.data() + misalignment,
               w.scales.empty() ? nullptr : w.scales.data() + misalignment);
    return w;
}

EncodedWeight encode_vector(const std::vector<float>& values) {
    EncodedWeight w = empty_weight(Format::F32, 1, static_cast<int64_t>(values.size()));
    encode_row(Format::F32, values, w.data.data() + misalignment, nullptr);
    return w;
}

int64_t whole_blocks(Format f, int64_t cols) {
    const int64_t block = format_info(f).block_len;
    return (cols + block - 1) / block * block;
}

Rig::Rig(Backend& b, const StepShape& shape) : be(b), record(shape) {
    input.reset(shape);
    for (const Tensor& t :
         {in().ids, in().positions, in().slots, in().seq_start, in().block_table, in().window_slots,
          in().window_table, in().logits_rows, in().hidden_rows, in().draw_rows, in().edits, in().masks}) {
        if (t) std::ranges::fill(input.of(t), 0x5a5a5a5a);
    }
    input.counts() = {.n_tokens = shape.n_tokens,
                      .n_seqs = shape.n_seqs,
                      .n_logits = shape.n_logits,
                      .n_hidden = shape.n_hidden};
}

Tensor Rig::take(DType type, const std::vector<int64_t>& shape, int64_t gap, RowsOf rows_of) {
    int64_t row_len = 1;
    for (size_t i = 1; i < shape.size(); ++i) row_len *= shape[i];
    int64_t each = 1;
    if (rows_of != RowsOf::fixed) {
        const StepShape& s = record.shape();
        const StepCounts most{
            .n_tokens = s.n_tokens, .n_seqs = s.n_seqs, .n_logits = s.n_logits, .n_hidden = s.n_hidden};
        each = shape[0] / most.of(rows_of);
        CHECK(each * most.of(rows_of) == shape[0]);
    }
    Tensor t = record.take(type, rows_of, {shape[0], row_len + gap}, each);
    t.rank = static_cast<int>(shape.size());
    t.shape = {};
    std::copy(shape.begin(), shape.end(), t.shape.begin());
    return t;
}

void Rig::put(const Tensor& dense, const void* bytes) {
    if (program_ != nullptr) {
        be.write(dense, bytes);
        return;
    }
    const auto* first = static_cast<const std::byte*>(bytes);
    contents_.push_back({dense, {first, first + dense.n_bytes()}});
}

Tensor Rig::ints(std::vector<int64_t> shape, const std::vector<int32_t>& values, RowsOf rows_of) {
    const Tensor t = take(DType::I32, shape, 0, rows_of);
    CHECK(static_cast<int64_t>(values.size()) == t.n_elements());
    put(t, values.data());
    return t;
}

Tensor Rig::floats(std::vector<int64_t> shape, const std::vector<float>& values, int64_t gap,
                   RowsOf rows_of) {
    const Tensor t = take(DType::F32, shape, gap, rows_of);
    write(t, values);
    return t;
}

namespace {

// t and the filler between its rows.
Tensor with_gaps(const Tensor& t) {
    Tensor whole = t.flat();
    whole.shape[1] = t.row_stride;
    return whole;
}

}  // namespace

void Rig::write(const Tensor& t, const std::vector<float>& values) {
    CHECK(static_cast<int64_t>(values.size()) == t.n_elements());
    const Tensor whole = with_gaps(t);
    std::vector<float> all(static_cast<size_t>(whole.n_elements()), filler);
    for (int64_t i = 0; i < t.n_rows(); ++i) {
        std::copy_n(values.begin() + i * t.row_len(), t.row_len(), all.begin() + i * whole.row_stride);
    }
    put(whole, all.data());
}

Tensor Rig::empty(std::vector<int64_t> shape, int64_t gap, RowsOf rows_of) {
    int64_t n = 1;
    for (const int64_t s : shape) n *= s;
    return floats(std::move(shape), std::vector<float>(static_cast<size_t>(n), filler), gap, rows_of);
}

void Rig::set(const Tensor& t, const std::vector<int32_t>& values) {
    set_structs(t, values);
}

void Rig::compile() {
    program_ = be.compile(record);
    for (const Contents& c : contents_) be.write(c.tensor, c.bytes.data());
    contents_.clear();
}

StepResult Rig::run() {
    if (program_ == nullptr) compile();
    be.launch(*program_, input);
    return be.collect();
}

std::vector<float> Rig::read(const Tensor& t) {
    const Tensor whole = with_gaps(t);
    std::vector<float> all(static_cast<size_t>(whole.n_elements())), rows;
    be.read(whole, all.data());
    for (int64_t i = 0; i < t.n_rows(); ++i) {
        const auto row = all.begin() + i * t.row_stride;
        rows.insert(rows.end(), row, row + t.row_len());
        const bool intact =
            std::all_of(row + t.row_len(), row + t.row_stride, [](float x) { return x == filler; });
        EXPECT_TRUE(intact) << "memory between rows was written, row " << i;
    }
    return rows;
}

std::vector<int32_t> Rig::read_ints(const Tensor& t) {
    std::vector<int32_t> all(static_cast<size_t>(t.n_elements()));
    be.read(t, all.data());
    return all;
}

std::vector<std::byte> contents_of(KvStorage& kv) {
    const KvShape& s = kv.shape();
    std::vector<std::byte> all(s.n_bytes());
    for (int64_t b = 0; b < s.n_blocks; ++b) {
        kv.read_block(static_cast<int32_t>(b),
                      std::span(all).subspan(static_cast<size_t>(b) * s.block_bytes(), s.block_bytes()));
    }
    return all;
}

testing::AssertionResult near(const std::vector<float>& got, const std::vector<float>& expected,
                              const std::vector<double>& bound, double max_nmse) {
    if (got.size() != expected.size() || bound.size() != expected.size()) {
        return testing::AssertionFailure() << got.size() << " elements, expected " << expected.size();
    }
    double error = 0, energy = 0, worst = 0;
    size_t worst_index = 0;
    for (size_t i = 0; i < got.size(); ++i) {
        const double difference = std::fabs(as_double(got[i]) - as_double(expected[i]));
        const double part = std::isfinite(difference) ? difference / std::max(bound[i], 1e-300) : 1e300;
        if (part > worst) {
            worst = part;
            worst_index = i;
        }
        error += difference * difference;
        energy += as_double(expected[i]) * as_double(expected[i]);
    }
    const double nmse = energy > 0 ? error / energy : error;
    if (worst <= 1 && nmse <= max_nmse) return testing::AssertionSuccess();
    return testing::AssertionFailure()
           << "worst at " << worst_index << " of " << got.size() << ": expected " << expected[worst_index]
           << ", got " << got[worst_index] << ", bound " << bound[worst_index] << " (" << worst
           << " times the bound); NMSE " << nmse << ", at most " << max_nmse;
}

testing::AssertionResult identical(const std::vector<float>& got, const std::vector<float>& expected) {
    if (got.size() != expected.size()) {
        return testing::AssertionFailure() << got.size() << " elements, expected " << expected.size();
    }
    for (size_t i = 0; i < got.size(); ++i) {
        if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0) {
            return testing::AssertionFailure()
                   << "differs at " << i << " of " << got.size() << ": " << expected[i] << ", " << got[i];
        }
    }
    return testing::AssertionSuccess();
}

}  // namespace smelt
