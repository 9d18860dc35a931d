// The angle of pair i at position p is p * f_i. A frequency is read off the table at position 1 and made more
// exact at 2, 4, 8, ... where a small difference shows.
#include "files/onnx/onnx_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "files/families.h"
#include "files/readers.h"
#include "files/writers.h"
#include "quant/format.h"

namespace smelt {

namespace {

class RopeTables {
 public:
    explicit RopeTables(const OnnxDecoder& d) : cos_(*d.cos), sin_(*d.sin), n_pairs_(d.head_dim / 2) {
        for (const OnnxTensor* t : {&cos_, &sin_}) {
            const bool right =
                t->shape.size() == 2 && t->shape[0] >= 2 && t->shape[1] == n_pairs_ && n_pairs_ > 0 &&
                d.head_dim % 2 == 0 &&
                (t->type == OnnxType::f32 || t->type == OnnxType::f16 || t->type == OnnxType::bf16);
            if (!right) {
                throw Error("{}: tensor {}: expected floats of (positions, {}), found {} {}", t->source,
                            t->name, d.head_dim / 2, shape_text(t->shape), to_string(t->type));
            }
        }
        if (cos_.shape != sin_.shape) {
            throw Error("{}: tensor {}: expected shape {}, found {}", sin_.source, sin_.name,
                        shape_text(cos_.shape), shape_text(sin_.shape));
        }
        rounding_ = cos_.type == OnnxType::f32 ? 2e-6 : cos_.type == OnnxType::f16 ? 1e-3 : 8e-3;
        for (int64_t p = 1; p < cos_.shape[0]; p *= 2) positions_.push_back(p);
        positions_.push_back(cos_.shape[0] - 1);
    }

    int64_t n_pairs() const { return n_pairs_; }
    const std::string& name() const { return cos_.name; }
    const std::string& source() const { return cos_.source; }

    // Whether these frequencies give the tables, as far as floats of the exporter's go.
    bool follows(const std::vector<double>& frequencies) const {
        return std::ranges::all_of(positions_, [&](int64_t p) {
            const std::vector<float> c = row(cos_, p), s = row(sin_, p);
            for (size_t i = 0; i < frequencies.size(); ++i) {
                const double angle = static_cast<double>(p) * frequencies[i],
                             allowed = rounding_ + 4e-7 * std::fabs(angle);
                if (!(std::fabs(static_cast<double>(c[i]) - std::cos(angle)) <= allowed &&
                      std::fabs(static_cast<double>(s[i]) - std::sin(angle)) <= allowed)) {
                    return false;
                }
            }
            return true;
        });
    }

    std::vector<double> frequencies() const {
        std::vector<double> f;
        for (const int64_t p : positions_) {
            const std::vector<float> c = row(cos_, p), s = row(sin_, p);
            for (size_t i = 0; i < c.size(); ++i) {
                const double x = static_cast<double>(c[i]), y = static_cast<double>(s[i]);
                if (!(std::fabs(std::hypot(x, y) - 1) <= 4 * rounding_)) {
                    throw Error(
                        "{}: tensor {}: position {}, pair {}: expected a cosine with its sine, found {} "
                        "and {}; tables with a factor are not read",
                        source(), name(), p, i, x, y);
                }
                const double angle = std::atan2(y, x), at = static_cast<double>(p);
                if (p == 1) {
                    f.push_back(angle);
                } else {
                    f[i] += std::remainder(angle - f[i] * at, 2 * std::numbers::pi) / at;
                }
            }
        }
        for (double& v : f) v = std::max(v, 0.0);
        return f;
    }

 private:
    std::vector<float> row(const OnnxTensor& t, int64_t r) const {
        const Format format = t.type == OnnxType::f32   ? Format::F32
                              : t.type == OnnxType::f16 ? Format::F16
                                                        : Format::BF16;
        const size_t n = data_bytes(format, n_pairs_);
        const auto bytes = t.data.subspan(static_cast<size_t>(r) * n, n);
        const std::vector<std::byte> copy(bytes.begin(), bytes.end());  // aligned
        std::vector<float> values(static_cast<size_t>(n_pairs_));
        decode_row({format, copy.data(), nullptr, n_pairs_}, values);
        return values;
    }

    const OnnxTensor &cos_, &sin_;
    int64_t n_pairs_;
    double rounding_ = 0;
    std::vector<int64_t> positions_;  // those that are looked at
};

std::vector<double> frequencies_of_base(double base, int64_t n_pairs) {
    std::vector<double> f;
    for (int64_t i = 0; i < n_pairs; ++i)
        f.push_back(std::pow(base, -static_cast<double>(i) / static_cast<double>(n_pairs)));
    return f;
}

// As many digits as are given, the rest zeros.
double rounded_to(double value, int digits) {
    const double unit = std::pow(10, std::floor(std::log10(value)) + 1 - digits);
    return std::round(value / unit) * unit;
}

}  // namespace

std::vector<double> onnx_rope_frequencies(const ModelFile& model, const std::string& architecture,
                                          int64_t n_pairs) {
    const Metadata& m = model.metadata;
    const double base = m.get_double(architecture + ".rope.freq_base").value_or(10000);
    if (!(base > 0 && base < 1e15)) throw Error("{}: rope_theta: found {}", model.path.string(), base);
    std::vector<double> f = frequencies_of_base(base, n_pairs);
    if (const TensorView* divisors = model.find("rope_freqs.weight")) {
        const std::vector<float> values = divisors->decoded();
        if (values.size() != f.size())
            throw Error("{}: rope_freqs.weight: expected {} divisors, found {}", model.path.string(),
                        f.size(), values.size());
        for (size_t i = 0; i < f.size(); ++i) f[i] /= static_cast<double>(values[i]);
        return f;
    }
    const std::string* type = m.get_string(architecture + ".rope.scaling.type");
    if (type == nullptr || *type == "none" || *type == "default") return f;
    if (*type == "linear") {
        const double factor = m.get_double(architecture + ".rope.scaling.factor").value_or(1);
        for (double& v : f) v /= factor;
        return f;
    }
    if (*type == "llama3") {
        const auto divisors = llama3_rope_divisors(m, architecture);
        for (size_t i = 0; i < f.size() && i < divisors.size(); ++i) f[i] /= static_cast<double>(divisors[i]);
        return f;
    }
    throw Error("{}: RoPE scaling {}: of ONNX models none, linear and llama3 are known", model.path.string(),
                *type);
}

double fitting_rope_base(const OnnxDecoder& decoder) {
    const RopeTables tables(decoder);
    const int64_t n = tables.n_pairs();
    if (n < 2) return 0;
    const double slowest = tables.frequencies().back();
    if (!(slowest > 0)) return 0;
    const double base = std::pow(slowest, -static_cast<double>(n) / static_cast<double>(n - 1));
    if (!(base > 1 && base < 1e12)) return 0;
    for (int digits = 1; digits <= 6; ++digits) {
        const double round = rounded_to(base, digits);
        if (tables.follows(frequencies_of_base(round, n))) return round;
    }
    return tables.follows(frequencies_of_base(base, n)) ? base : 0;
}

void apply_onnx_rope(const OnnxDecoder& decoder, ModelFile& model) {
    const Family* family = family_of(model.metadata);
    const std::string architecture(family->architecture);
    const RopeTables tables(decoder);
    if (tables.follows(onnx_rope_frequencies(model, architecture, tables.n_pairs()))) return;
    const std::vector<double> found = tables.frequencies();
    if (find_rule(*family, "rope_freqs.weight") == nullptr || !tables.follows(found)) {
        throw Error("{}: tensor {}: the rotation is not that of the config, and smelt has no other for {}",
                    tables.source(), tables.name(), family->model_type);
    }
    const double base = *model.metadata.get_double(architecture + ".rope.freq_base");
    const std::vector<double> plain = frequencies_of_base(base, tables.n_pairs());
    std::vector<std::byte> divisors;
    for (size_t i = 0; i < found.size(); ++i) {
        const auto divisor = static_cast<float>(plain[i] / found[i]);
        if (!std::isfinite(divisor)) {
            throw Error("{}: tensor {}: pair {}: expected a rotation, found none", tables.source(),
                        tables.name(), i);
        }
        const auto bytes = std::as_bytes(std::span(&divisor, 1));
        divisors.insert(divisors.end(), bytes.begin(), bytes.end());
    }
    model.metadata.erase_prefix(architecture + ".rope.scaling.");
    model.owned.push_back(std::make_shared<const std::vector<std::byte>>(std::move(divisors)));
    model.tensors.push_back(
        {"rope_freqs.weight", Format::F32, {tables.n_pairs()}, *model.owned.back(), {}, tables.source()});
    model.notes.push_back(
        fmt::format("{} has other RoPE frequencies than the config's formula gives: the graph's are used",
                    tables.name()));
}

}  // namespace smelt
