// Parts of a weight found by their names, checked, and turned into rows.
#include "files/packed/packed_weights.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "base/thread_pool.h"
#include "files/packed/packed_integers.h"

namespace smelt {

namespace {

constexpr int64_t nvfp4_group = BlockNVFP4_HF::block_len;

float read_scalar(const SafetensorsEntry& e, const std::string& source) {
    float value = 0;
    if (e.dtype != "F32" || e.data.size() != sizeof(value)) {
        throw Error("{}: {}: expected one F32, found {} {}", source, e.name, e.dtype, shape_text(e.shape));
    }
    std::memcpy(&value, e.data.data(), sizeof(value));
    return value;
}

std::span<std::byte> take_memory(size_t n_bytes, ModelFile& model) {
    auto memory = std::make_shared<std::vector<std::byte>>(n_bytes);
    const std::span<std::byte> bytes = *memory;
    model.owned.push_back(std::move(memory));
    return bytes;
}

}  // namespace

bool PackedWeights::take(const SafetensorsEntry& entry, const std::string& source) {
    using Method = QuantScheme::Method;
    if (scheme_.method == Method::none) return false;
    const size_t dot = entry.name.rfind('.');
    if (dot == std::string::npos) return false;
    const std::string_view part = std::string_view(entry.name).substr(dot + 1);
    const auto is = [&](std::initializer_list<std::string_view> names) {
        return std::ranges::find(names, part) != names.end();
    };
    if (scheme_.method == Method::nvfp4) {
        // Scales of activations and of the KV cache, which smelt does not quantize this way.
        if (is({"input_scale", "input_global_scale", "k_scale", "v_scale"})) return true;
        const bool quants = part == "weight_packed" || (part == "weight" && entry.dtype == "U8");
        if (!quants && !is({"weight_scale", "weight_scale_2", "weight_global_scale"})) return false;
    } else if (!is({"qweight", "qzeros", "scales", "g_idx"})) {
        return false;
    }
    tensors_[entry.name.substr(0, dot)].insert_or_assign(std::string(part), Part{entry, source});
    return true;
}

std::vector<TensorView> PackedWeights::join(ModelFile& model) const {
    std::vector<TensorView> result;
    for (const auto& [stem, parts] : tensors_) {
        const std::string name = stem + ".weight";
        result.push_back(scheme_.method == QuantScheme::Method::nvfp4 ? join_nvfp4(name, parts, model)
                                                                      : join_integers(name, parts, model));
    }
    return result;
}

TensorView PackedWeights::join_nvfp4(const std::string& name, const Parts& parts, ModelFile& model) const {
    const auto find = [&](std::initializer_list<std::string_view> names) -> const Part& {
        for (const std::string_view n : names) {
            if (const auto it = parts.find(n); it != parts.end()) return it->second;
        }
        throw Error("{}: {}: {} is missing", parts.begin()->second.source, name,
                    fmt::join(names.begin(), names.end(), " or "));
    };
    const Part &quants = find({"weight_packed", "weight"}), &scales = find({"weight_scale"}),
               &tensor = find({"weight_global_scale", "weight_scale_2"});
    const auto& shape = quants.entry.shape;
    const auto& groups = scales.entry.shape;
    if (quants.entry.dtype != "U8" || scales.entry.dtype != "F8_E4M3" || shape.size() != 2 ||
        groups.size() != 2 || shape[0] != groups[0] || shape[1] * 2 != groups[1] * nvfp4_group) {
        throw Error("{}: {}: expected U8 (rows, n / 2) and F8_E4M3 (rows, n / 16), found {} {} and {} {}",
                    quants.source, name, quants.entry.dtype, shape_text(shape), scales.entry.dtype,
                    shape_text(groups));
    }
    TensorView view{
        name,         Format::NVFP4_HF, {shape[0], shape[1] * 2}, quants.entry.data, scales.entry.data,
        quants.source};
    if (weights_ == Weights::listed) return view;

    // compressed-tensors stores what the scales were multiplied by, Model Optimizer what they are to be
    // multiplied by.
    const float factor = read_scalar(tensor.entry, tensor.source);
    const bool divides = parts.contains("weight_global_scale");
    const std::span<std::byte> out = take_memory(scales.entry.data.size() * sizeof(float), model);
    for (size_t i = 0; i < scales.entry.data.size(); ++i) {
        const float scale = E4M3::value(static_cast<uint32_t>(scales.entry.data[i]));
        const float product = divides ? scale / factor : scale * factor;
        std::memcpy(out.data() + i * sizeof(float), &product, sizeof(float));
    }
    view.scales = out;
    return view;
}

TensorView PackedWeights::join_integers(const std::string& name, const Parts& parts, ModelFile& model) const {
    const std::string& source = parts.begin()->second.source;
    const auto find = [&](std::string_view part) {
        const auto it = parts.find(part);
        return it == parts.end() ? nullptr : &it->second.entry;
    };
    const PackedIntegers packed(scheme_, {find("qweight"), find("qzeros"), find("scales"), find("g_idx")},
                                name, source);
    TensorView view{name, packed.format(), {packed.n_out(), packed.n_in()}, find("qweight")->data,
                    {},   source};
    if (weights_ == Weights::listed) return view;

    const std::span<std::byte> out = take_memory(data_bytes(view.format, view.n_elements()), model);
    ThreadPool pool(std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 64));
    std::mutex mutex;
    std::string failure;  // of any member: a pool's job must not throw
    pool.run([&](int member) {
        try {
            packed.write_rows(packed.n_out() * member / pool.size(),
                              packed.n_out() * (member + 1) / pool.size(), out);
        } catch (const Error& e) {
            const std::lock_guard lock(mutex);
            failure = e.what();
        }
    });
    if (!failure.empty()) throw Error(failure);
    view.data = out;
    return view;
}

}  // namespace smelt
