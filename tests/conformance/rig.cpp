// Builds inputs on any backend and judges results; the tests themselves are beside it.
#include "conformance/rig.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "quant/random_weights.h"

namespace smelt {

namespace {

constexpr float filler = -77777.0f;
constexpr size_t misalignment = 1;  // byte; mapped files promise nothing

}  // namespace

std::vector<Device> make_devices(int n_threads) {
    std::vector<Device> result;
    for (const BackendInfo& info : list_backends()) {
        if (!info.missing.empty() || info.name == "reference") continue;
        if (info.name != "cpu") {
            result.push_back({info.name, make_backend(info.name, {.n_threads = n_threads, .isa = ""})});
            continue;
        }
        for (const char* isa : {"avx512", "avx2", "neon_dotprod", "neon", "portable"}) {
            try {
                result.push_back(
                    {std::string("cpu ") + isa, make_backend("cpu", {.n_threads = n_threads, .isa = isa})});
            } catch (const Error&) {
                continue;  // not in this build, or not in this processor
            }
        }
    }
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

Tensor Rig::raw(DType type, std::vector<int64_t> shape) {
    Tensor t;
    t.dtype = type;
    t.rank = static_cast<int>(shape.size());
    std::copy(shape.begin(), shape.end(), t.shape.begin());
    t.row_stride = t.row_len();
    storages_.push_back(be.allocate(t.n_bytes()));
    t.storage = storages_.back().get();
    return t;
}

KvRows Rig::kv_rows(Format f, int64_t n_blocks, int64_t block_len, int64_t n_heads, int64_t dim) {
    KvRows rows(f, n_blocks, block_len, n_heads, dim);
    rows.storage = raw(DType::I32, {(static_cast<int64_t>(rows.n_bytes()) + 3) / 4}).storage;
    return rows;
}

std::vector<std::byte> Rig::read(const KvRows& rows) {
    Tensor words{.storage = rows.storage, .dtype = DType::I32, .rank = 1};
    words.shape[0] = (static_cast<int64_t>(rows.n_bytes()) + 3) / 4;
    words.row_stride = 1;
    std::vector<std::byte> bytes(words.n_bytes());
    be.read(words, bytes.data());
    bytes.resize(rows.n_bytes());
    return bytes;
}

Tensor Rig::ints(std::vector<int64_t> shape, const std::vector<int32_t>& values) {
    const Tensor t = raw(DType::I32, std::move(shape));
    CHECK(static_cast<int64_t>(values.size()) == t.n_elements());
    be.write(t, values.data());
    return t;
}

Tensor Rig::floats(std::vector<int64_t> shape, const std::vector<float>& values, int64_t gap) {
    Tensor t;
    t.rank = static_cast<int>(shape.size());
    std::copy(shape.begin(), shape.end(), t.shape.begin());
    CHECK(static_cast<int64_t>(values.size()) == t.n_elements());
    const Tensor whole = raw(DType::F32, {t.n_rows(), t.row_len() + gap});
    std::vector<float> all(static_cast<size_t>(whole.n_elements()), filler);
    for (int64_t i = 0; i < t.n_rows(); ++i) {
        std::copy_n(values.begin() + i * t.row_len(), t.row_len(), all.begin() + i * whole.row_stride);
    }
    be.write(whole, all.data());
    t.storage = whole.storage;
    t.row_stride = whole.row_stride;
    return t;
}

Tensor Rig::empty(std::vector<int64_t> shape, int64_t gap) {
    int64_t n = 1;
    for (const int64_t s : shape) n *= s;
    return floats(std::move(shape), std::vector<float>(static_cast<size_t>(n), filler), gap);
}

std::vector<float> Rig::read(const Tensor& t) {
    Tensor whole = t.flat();
    whole.shape[1] = t.row_stride;
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
