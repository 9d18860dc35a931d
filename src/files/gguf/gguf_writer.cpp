// GGUF v3. Metadata goes out in the types that llama.cpp's loader asks for: u32, f32, i32 lists.
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "files/conversion.h"
#include "files/families.h"
#include "files/gguf/gguf_types.h"
#include "files/writers.h"

namespace smelt {

namespace {

template <class T>
void put(std::string& out, T value) {
    const auto at = out.size();
    out.resize(at + sizeof(T));
    std::memcpy(out.data() + at, &value, sizeof(T));
}

void put_string(std::string& out, std::string_view text) {
    put(out, static_cast<uint64_t>(text.size()));
    out += text;
}

void put_type(std::string& out, GgufValue type) {
    put(out, static_cast<uint32_t>(type));
}

void put_list(std::string& out, GgufValue type, size_t n) {
    put_type(out, GgufValue::array);
    put_type(out, type);
    put(out, static_cast<uint64_t>(n));
}

struct ValueWriter {
    std::string& out;
    bool is_signed;  // the key's readers ask for i32

    void operator()(bool v) const {
        put_type(out, GgufValue::boolean);
        put(out, static_cast<uint8_t>(v));
    }
    void operator()(int64_t v) const {
        if (v >= 0 && v <= std::numeric_limits<uint32_t>::max() && !is_signed) {
            put_type(out, GgufValue::u32);
            put(out, static_cast<uint32_t>(v));
        } else if (v >= std::numeric_limits<int32_t>::min() && v <= std::numeric_limits<int32_t>::max()) {
            put_type(out, GgufValue::i32);
            put(out, static_cast<int32_t>(v));
        } else {
            put_type(out, GgufValue::i64);
            put(out, v);
        }
    }
    void operator()(double v) const {
        put_type(out, GgufValue::f32);
        put(out, static_cast<float>(v));
    }
    void operator()(const std::string& v) const {
        put_type(out, GgufValue::string);
        put_string(out, v);
    }
    void operator()(const std::vector<int64_t>& v) const {
        bool small = true;
        for (const int64_t n : v) small = small && n == static_cast<int32_t>(n);
        put_list(out, small ? GgufValue::i32 : GgufValue::i64, v.size());
        for (const int64_t n : v) {
            if (small) {
                put(out, static_cast<int32_t>(n));
            } else {
                put(out, n);
            }
        }
    }
    void operator()(const std::vector<double>& v) const {
        put_list(out, GgufValue::f32, v.size());
        for (const double n : v) put(out, static_cast<float>(n));
    }
    void operator()(const std::vector<std::string>& v) const {
        put_list(out, GgufValue::string, v.size());
        for (const std::string& text : v) put_string(out, text);
    }
};

// llama.cpp's numbers for "mostly this format"; of the K-quants' mixtures the middle one.
int64_t file_type(Format f) {
    constexpr std::pair<Format, int64_t> types[] = {
        {Format::F16, 1},     {Format::Q4_0, 2},  {Format::Q4_1, 3},  {Format::Q8_0, 7},
        {Format::Q5_0, 8},    {Format::Q5_1, 9},  {Format::Q2_K, 10}, {Format::Q3_K, 12},
        {Format::Q4_K, 15},   {Format::Q5_K, 17}, {Format::Q6_K, 18}, {Format::IQ4_NL, 25},
        {Format::IQ4_XS, 30}, {Format::BF16, 32}, {Format::MXFP4, 38}};
    for (const auto& [format, type] : types) {
        if (format == f) return type;
    }
    return 0;
}

bool is_llama3(const Metadata& m, const std::string& architecture) {
    const std::string* type = m.get_string(architecture + ".rope.scaling.type");
    return type != nullptr && *type == "llama3";
}

// The metadata as GGUF has it: smelt's own keys under GGUF's names where there are any.
Metadata gguf_metadata(const ModelFile& model, const Metadata& vocabulary, const std::string& architecture) {
    Metadata out;
    const bool llama3 = is_llama3(model.metadata, architecture);
    for (const auto& [key, value] : model.metadata.values()) {
        const bool own = key.starts_with("smelt.") || key.starts_with("generation.") ||
                         key.starts_with("split.") || key == "general.alignment" ||
                         key == architecture + ".rope.partial_factor" ||
                         key == architecture + ".ssm.value_length" ||
                         (key == architecture + ".attention.recurrent_layers" &&
                          model.metadata.find(architecture + ".full_attention_interval") != nullptr) ||
                         key == architecture + ".attention.nope_length";
        const std::string scaling = architecture + ".rope.scaling.";
        if (own || (llama3 && key.starts_with(scaling))) continue;
        out.set(key, value);
    }
    const auto rename = [&](const std::string& from, const std::string& to) {
        if (const MetadataValue* value = model.metadata.find(from)) out.set(to, *value);
    };
    rename("generation.temperature", "general.sampling.temp");
    rename("generation.top_k", "general.sampling.top_k");
    rename("generation.top_p", "general.sampling.top_p");
    rename("generation.min_p", "general.sampling.min_p");
    rename("generation.repetition_penalty", "general.sampling.penalty_repeat");
    rename("generation.do_sample", "smelt.generation.do_sample");
    rename("generation.eos_token_ids", "smelt.generation.eos_token_ids");
    rename("generation.bos_token_id", "smelt.generation.bos_token_id");
    if (llama3) {
        // As its own keys: llama.cpp takes this scaling from rope_freqs.weight and would apply these twice.
        for (const char* key :
             {"type", "factor", "low_freq_factor", "high_freq_factor", "original_context_length"}) {
            rename(architecture + ".rope.scaling." + key, std::string("smelt.rope.scaling.") + key);
        }
    }
    for (const auto& [key, value] : vocabulary.values()) out.set(key, value);
    return out;
}

Format main_format(const std::vector<OutputTensor>& plan) {
    std::map<Format, uint64_t> bytes;
    for (const OutputTensor& t : plan) bytes[t.format] += t.n_bytes();
    Format best = Format::F32;
    for (const auto& [format, n] : bytes) {
        if (n > bytes[best]) best = format;
    }
    return best;
}

size_t padding(uint64_t n) {
    return static_cast<size_t>((gguf_default_alignment - n % gguf_default_alignment) %
                               gguf_default_alignment);
}

std::string gguf_header(const Metadata& metadata, const std::vector<OutputTensor>& plan) {
    std::string out;
    put(out, gguf_magic);
    put(out, uint32_t{3});
    put(out, static_cast<uint64_t>(plan.size()));
    put(out, static_cast<uint64_t>(metadata.values().size()));
    for (const auto& [key, value] : metadata.values()) {
        put_string(out, key);
        if (key == "clip.vision.is_deepstack_layers") {  // numbers here, flags there
            const auto& flags = std::get<std::vector<int64_t>>(value);
            put_list(out, GgufValue::boolean, flags.size());
            for (const int64_t flag : flags) put(out, static_cast<uint8_t>(flag != 0));
            continue;
        }
        std::visit(ValueWriter{out, key == "general.sampling.top_k"}, value);
    }
    uint64_t offset = 0;
    for (const OutputTensor& t : plan) {
        put_string(out, t.name);
        put(out, static_cast<uint32_t>(t.shape.size()));
        for (size_t i = t.shape.size(); i-- > 0;) put(out, static_cast<uint64_t>(t.shape[i]));
        put(out, static_cast<uint32_t>(format_info(t.format).gguf_id));
        put(out, offset);
        offset += t.n_bytes() + padding(t.n_bytes());
    }
    return out;
}

}  // namespace

std::vector<float> llama3_rope_divisors(const Metadata& m, const std::string& architecture) {
    if (!is_llama3(m, architecture)) return {};
    const std::string scaling = architecture + ".rope.scaling.";
    const auto number = [&](const std::string& key, std::optional<double> fallback) {
        const auto value = m.get_double(key);
        if (!value && !fallback) throw Error("metadata {}: missing, llama3 scaling needs it", key);
        return value ? *value : *fallback;
    };
    const double factor = number(scaling + "factor", {}), low = number(scaling + "low_freq_factor", 1),
                 high = number(scaling + "high_freq_factor", 4),
                 original = number(scaling + "original_context_length", {}),
                 base = number(architecture + ".rope.freq_base", 10000);
    const int64_t head_dim = m.get_int(architecture + ".attention.key_length").value_or(0);
    if (head_dim < 2 || head_dim > 65536) {
        throw Error("metadata {}.attention.key_length: expected 2 to 65536, found {}", architecture,
                    head_dim);
    }
    if (!(factor > 0 && low > 0 && high > low)) {
        throw Error(
            "metadata {}: expected factor > 0 and 0 < low_freq_factor < high_freq_factor, found {}, {}, {}",
            scaling, factor, low, high);
    }
    std::vector<float> divisors;
    for (int64_t i = 0; i < head_dim / 2; ++i) {
        const double wavelength =
            2 * std::numbers::pi * std::pow(base, static_cast<double>(2 * i) / static_cast<double>(head_dim));
        double divisor = 1;
        if (wavelength > original / low) {
            divisor = factor;
        } else if (wavelength >= original / high) {
            const double smooth = (original / wavelength - low) / (high - low);
            divisor = 1 / ((1 - smooth) / factor + smooth);
        }
        divisors.push_back(static_cast<float>(divisor));
    }
    return divisors;
}

namespace {

struct GgufPlan {
    std::vector<OutputTensor> tensors;
    std::vector<float> divisors;  // of rope_freqs.weight, where it is made here
    Metadata metadata;
};

GgufPlan plan_gguf(const ModelFile& model, const Metadata& vocabulary, const WriteOptions& options) {
    const std::string* name = model.metadata.get_string("general.architecture");
    if (name == nullptr) throw Error("{}: general.architecture: missing", model.path.string());
    const std::string architecture = *name;

    GgufPlan plan;
    plan.tensors = plan_tensors(model, {options.format, Container::gguf, &options.formats});
    if (options.importance != nullptr) {
        for (OutputTensor& t : plan.tensors) {
            const auto found = options.importance->find(t.name);
            if (found == options.importance->end()) continue;
            const auto n = static_cast<int64_t>(found->second.size());
            const int64_t n_matrices = t.row_len() > 0 ? n / t.row_len() : 0;
            if (n == 0 || n % t.row_len() != 0 || t.n_rows() % n_matrices != 0) {
                throw Error("importance matrix: {}: expected {} numbers or that for each matrix, found {}",
                            t.name, t.row_len(), n);
            }
            t.importance = found->second;
        }
    }
    plan.divisors = llama3_rope_divisors(model.metadata, architecture);
    if (!plan.divisors.empty() && model.find("rope_freqs.weight") == nullptr) {
        TensorView view{"rope_freqs.weight",
                        Format::F32,
                        {static_cast<int64_t>(plan.divisors.size())},
                        std::as_bytes(std::span(plan.divisors)),
                        {},
                        model.path.string()};
        const std::vector<int64_t> shape = view.shape;
        plan.tensors.insert(plan.tensors.begin(), OutputTensor{view.name, {view}, shape, Format::F32});
    }

    plan.metadata = gguf_metadata(model, vocabulary, architecture);
    const Format format = main_format(plan.tensors);
    if (plan.metadata.find("general.name") == nullptr) {
        plan.metadata.set("general.name", model.path.stem().string());
    }
    plan.metadata.set("general.file_type", file_type(format));
    if (format_info(format).block_len > 1) plan.metadata.set("general.quantization_version", int64_t{2});
    return plan;
}

}  // namespace

uint64_t gguf_bytes(const ModelFile& model, const Metadata& vocabulary, const WriteOptions& options) {
    const GgufPlan plan = plan_gguf(model, vocabulary, options);
    uint64_t n = gguf_header(plan.metadata, plan.tensors).size();
    n += padding(n);
    for (const OutputTensor& t : plan.tensors) n += t.n_bytes() + padding(t.n_bytes());
    return n;
}

namespace {

void write_planned(const std::vector<OutputTensor>& tensors, const Metadata& metadata,
                   const std::filesystem::path& path, const WriteOptions& options) {
    uint64_t total = 0;
    for (const OutputTensor& t : tensors) total += t.n_bytes();
    ProgressMeter progress(total, options);
    ThreadPool pool(options.n_threads);
    AtomicFile file(path);
    file.write(gguf_header(metadata, tensors));
    file.write_zeros(padding(file.position()));
    for (const OutputTensor& t : tensors) {
        stream_tensor(t, pool, [&](std::span<const std::byte> bytes) {
            file.write(bytes);
            progress.add(bytes.size());
        });
        file.write_zeros(padding(file.position()));
    }
    file.commit();
}

}  // namespace

void write_gguf(const ModelFile& model, const std::filesystem::path& path, const Metadata& vocabulary,
                const WriteOptions& options) {
    const GgufPlan plan = plan_gguf(model, vocabulary, options);
    write_planned(plan.tensors, plan.metadata, path, options);
}

void write_gguf_tensors(const std::vector<TensorView>& tensors, const Metadata& metadata,
                        const std::filesystem::path& path) {
    std::vector<OutputTensor> plan;
    for (const TensorView& t : tensors) plan.push_back({t.name, {t}, t.shape, t.format});
    write_planned(plan, metadata, path, {});
}

}  // namespace smelt
