// Plain, linear, Llama 3 and YaRN frequencies. The formulas are those of the papers and of transformers'
// modeling_rope_utils.
#include "model/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace smelt {

namespace {

// Reads "<architecture>.rope.scaling.<name>" as a number within [low, high].
class ScalingKeys {
 public:
    ScalingKeys(const ModelFile& file, const std::string& architecture)
        : file_(file), prefix_(architecture + ".rope.scaling.") {}

    double get(const char* name, double fallback, double low, double high) const {
        return checked(name, file_.metadata.get_double(prefix_ + name).value_or(fallback), low, high);
    }
    double require(const char* name, double low, double high) const {
        const auto value = file_.metadata.get_double(prefix_ + name);
        if (!value)
            throw Error("{}: {}{}: missing, this kind of scaling needs it", file_.path.string(), prefix_,
                        name);
        return checked(name, *value, low, high);
    }
    bool get_bool(const char* name, bool fallback) const {
        return file_.metadata.get_bool(prefix_ + name).value_or(fallback);
    }

 private:
    double checked(const char* name, double value, double low, double high) const {
        if (!(value >= low && value <= high)) {
            throw Error("{}: {}{}: expected {} to {}, found {}", file_.path.string(), prefix_, name, low,
                        high, value);
        }
        return value;
    }
    const ModelFile& file_;
    std::string prefix_;
};

constexpr double max_tokens = 1e9;

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between blended.
void scale_llama3(std::vector<double>& inv_freq, const ScalingKeys& keys) {
    const double factor = keys.require("factor", 1, 1e6),
                 original = keys.require("original_context_length", 1, max_tokens);
    const double low = keys.get("low_freq_factor", 1, 1e-6, 1e6),
                 high = keys.get("high_freq_factor", 4, 1e-6, 1e6);
    for (double& f : inv_freq) {
        const double wavelength = 2 * std::numbers::pi / f;
        if (wavelength < original / high) continue;
        if (wavelength > original / low) {
            f /= factor;
        } else {
            const double smooth = (original / wavelength - low) / (high - low);
            f = (1 - smooth) * f / factor + smooth * f;
        }
    }
}

// YaRN (arXiv:2309.00071): dimensions that turn often within the original context keep their frequency, those
// that turn less than once are interpolated, a linear ramp between. Returns the factor on cos and sin.
double scale_yarn(std::vector<double>& inv_freq, const ScalingKeys& keys, double theta) {
    const double factor = keys.require("factor", 1, 1e6),
                 original = keys.require("original_context_length", 1, max_tokens);
    const double fast = keys.get("yarn_beta_fast", 32, 1e-6, 1e6),
                 slow = keys.get("yarn_beta_slow", 1, 1e-6, 1e6);
    const auto n_dims = static_cast<double>(2 * inv_freq.size());
    const auto dimension_of = [&](double turns) {
        return n_dims * std::log(original / (turns * 2 * std::numbers::pi)) / (2 * std::log(theta));
    };
    double low = dimension_of(fast), high = dimension_of(slow);
    if (keys.get_bool("truncate", true)) {
        low = std::floor(low);
        high = std::ceil(high);
    }
    low = std::max(low, 0.0);
    high = std::min(high, n_dims - 1);
    if (low == high) high += 0.001;
    for (size_t i = 0; i < inv_freq.size(); ++i) {
        const double interpolated = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
        inv_freq[i] *= interpolated / factor + (1 - interpolated);
    }
    // Where the scores are scaled instead, cos and sin are not.
    if (keys.get("yarn_log_multiplier", 0, 0, 100) > 0) return keys.get("attn_factor", 1, 0, 1e6);
    // As in GGUF, attn_factor multiplies the factor that the paper gives.
    return keys.get("attn_factor", 1, 0, 1e6) * (0.1 * std::log(factor) + 1);
}

}  // namespace

namespace {

double read_base(const ModelFile& file, const std::string& key) {
    const double theta = file.metadata.get_double(key).value_or(10000.0);
    if (!(theta > 1 && theta < 1e12))
        throw Error("{}: {}: expected 1 to 1e12, found {}", file.path.string(), key, theta);
    return theta;
}

std::vector<double> plain_frequencies(double theta, int64_t n_dims) {
    std::vector<double> inv_freq(static_cast<size_t>(n_dims / 2));
    for (size_t i = 0; i < inv_freq.size(); ++i) {
        inv_freq[i] = std::pow(theta, -static_cast<double>(2 * i) / static_cast<double>(n_dims));
    }
    return inv_freq;
}

void divide(std::vector<double>& inv_freq, const TensorView& divisors) {
    if (divisors.n_elements() != std::ssize(inv_freq) || divisors.n_rows() != 1) {
        throw Error("{}: {}: expected {} values, found {}", divisors.source, divisors.name, inv_freq.size(),
                    divisors.n_elements());
    }
    std::vector<float> values(inv_freq.size());
    decode_row(divisors.row(0), values);
    for (size_t i = 0; i < inv_freq.size(); ++i) inv_freq[i] /= static_cast<double>(values[i]);
}

std::vector<float> as_floats(const ModelFile& file, const std::vector<double>& values) {
    std::vector<float> floats;
    for (const double f : values) floats.push_back(static_cast<float>(f));
    for (const float f : floats) {
        if (!std::isfinite(f)) throw Error("{}: RoPE frequencies are not finite", file.path.string());
    }
    return floats;
}

}  // namespace

std::vector<float> read_local_rope(const ModelFile& file, const std::string& architecture, int64_t n_dims) {
    return as_floats(file, plain_frequencies(read_base(file, architecture + ".rope.freq_base_swa"), n_dims));
}

RopeFrequencies read_rope(const ModelFile& file, const std::string& architecture, int64_t n_dims) {
    const double theta = read_base(file, architecture + ".rope.freq_base");
    std::vector<double> inv_freq = plain_frequencies(theta, n_dims);

    RopeFrequencies result;
    const ScalingKeys keys(file, architecture);
    const std::string* type = file.metadata.get_string(architecture + ".rope.scaling.type");
    if (const TensorView* factors = file.find("rope_freqs.weight")) {
        divide(inv_freq, *factors);  // GGUF keeps Llama 3's scaling as divisors, already worked out
    } else if (const TensorView* far = file.find("rope_factors_long.weight")) {
        std::vector<double> beyond = inv_freq;
        divide(beyond, *far);
        divide(inv_freq, file.require("rope_factors_short.weight"));
        result.inv_freq_long = as_floats(file, beyond);
        result.short_context = static_cast<int64_t>(keys.require("original_context_length", 1, max_tokens));
        result.scale = static_cast<float>(keys.get("attn_factor", 1, 1e-6, 1e6));
    } else if (type == nullptr || *type == "none" || *type == "default") {
    } else if (*type == "linear") {
        for (double& f : inv_freq) f /= keys.require("factor", 1, 1e6);
    } else if (*type == "llama3") {
        scale_llama3(inv_freq, keys);
    } else if (*type == "yarn") {
        result.scale = static_cast<float>(scale_yarn(inv_freq, keys, theta));
    } else {
        throw Error("{}: {}.rope.scaling.type: expected none, linear, llama3 or yarn, found {}",
                    file.path.string(), architecture, *type);
    }
    result.inv_freq = as_floats(file, inv_freq);
    return result;
}

}  // namespace smelt
