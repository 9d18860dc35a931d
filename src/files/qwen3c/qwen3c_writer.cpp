// qwen3.c's .bin with its vocabulary and prompt files: all of them get their names after all are written.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "files/families.h"
#include "files/limits.h"
#include "files/writers.h"

namespace smelt {

namespace {

constexpr int64_t chunk_weights = 1 << 20;

void require_expressible(const ModelFile& model, const std::string& target) {
    const Metadata& m = model.metadata;
    const std::string* architecture = m.get_string("general.architecture");
    if (architecture == nullptr || *architecture != "qwen3") {
        throw Error("{}: qwen3.c's format can hold qwen3 only, the model is {}", target,
                    architecture == nullptr ? "of unknown architecture" : *architecture);
    }
    const double base = m.get_double("qwen3.rope.freq_base").value_or(qwen3c_rope_base),
                 eps = m.get_double("qwen3.attention.layer_norm_rms_epsilon").value_or(qwen3c_rms_eps);
    if (base != qwen3c_rope_base) {
        throw Error("{}: qwen3.c's format cannot hold a RoPE base of {}: its programs use {}", target, base,
                    qwen3c_rope_base);
    }
    if (eps != qwen3c_rms_eps) {
        throw Error("{}: qwen3.c's format cannot hold a norm epsilon of {}: its programs use {}", target, eps,
                    qwen3c_rms_eps);
    }
    const std::string* scaling = m.get_string("qwen3.rope.scaling.type");
    if (scaling != nullptr && *scaling != "none" && *scaling != "default") {
        throw Error("{}: qwen3.c's format cannot hold RoPE scaling ({})", target, *scaling);
    }
    const auto key = m.get_int("qwen3.attention.key_length"),
               value = m.get_int("qwen3.attention.value_length");
    if (value && value != key)
        throw Error("{}: qwen3.c's format cannot hold values of another length", target);
    for (const TensorView& t : model.tensors) {
        if (t.name.ends_with(".bias")) throw Error("{}: qwen3.c's format cannot hold {}", target, t.name);
    }
}

bool same_bytes(const TensorView& a, const TensorView& b) {
    return a.format == b.format && a.shape == b.shape && std::ranges::equal(a.data, b.data) &&
           std::ranges::equal(a.scales, b.scales);
}

Qwen3cHeader make_header(const ModelFile& model) {
    const auto get = [&](const char* name) {
        const std::string key = std::string("qwen3.") + name;
        const auto value = model.metadata.get_int(key);
        if (!value || *value < 1 || *value > 1 << 30) {
            throw Error("{}: {}: expected 1 to {}, found {}", model.path.string(), key, 1 << 30,
                        value.value_or(0));
        }
        return static_cast<int32_t>(*value);
    };
    Qwen3cHeader h{};
    h.dim = get("embedding_length");
    h.ffn_dim = get("feed_forward_length");
    h.n_layers = get("block_count");
    if (h.n_layers > limits::layers) {
        throw Error("{}: expected at most {} layers, found {}", model.path.string(), limits::layers,
                    h.n_layers);
    }
    h.n_heads = get("attention.head_count");
    h.n_kv_heads = get("attention.head_count_kv");
    h.vocab_size = get("vocab_size");
    h.n_ctx = get("context_length");
    h.head_dim = get("attention.key_length");
    const TensorView* head = model.find("output.weight");
    h.shared_classifier = head == nullptr || same_bytes(*head, model.require("token_embd.weight")) ? 1 : 0;
    h.group = 64;
    while (h.dim % h.group != 0) h.group /= 2;  // export.py's rule
    return h;
}

class TensorWriter {
 public:
    TensorWriter(AtomicFile& file, ThreadPool& pool, ProgressMeter& progress)
        : file_(file), pool_(pool), progress_(progress), failures_(static_cast<size_t>(pool.size())) {}

    void write(const TensorView& t, const Qwen3cTensor& expected, int64_t group) {
        if (t.shape != expected.shape) {
            throw Error("{}: tensor {}: expected {} x {} as the metadata says, found {} x {}", t.source,
                        t.name, expected.shape.front(), expected.shape.back(),
                        t.shape.empty() ? 0 : t.shape.front(), t.row_len());
        }
        if (!expected.quantized) return write_floats(t);
        if (t.format == Format::Q8_G64 && group == BlockQ8_G64::block_len) {
            put(t.data);
            return put(t.scales);
        }
        write_quantized(t, group);
    }

 private:
    void put(std::span<const std::byte> bytes) {
        file_.write(bytes);
        progress_.add(bytes.size());
    }

    void write_floats(const TensorView& t) {
        std::vector<float> row(static_cast<size_t>(t.row_len()));
        for (int64_t r = 0; r < t.n_rows(); ++r) {
            decode_row(t.row(r), row);
            put(std::as_bytes(std::span(row)));
        }
    }

    // Groups run over the rows as one line. The scales come after all quants and are kept until then.
    void write_quantized(const TensorView& t, int64_t group) {
        if (t.n_elements() % group != 0) {
            throw Error("{}: tensor {}: {} weights are no multiple of qwen3.c's group of {}", t.source,
                        t.name, t.n_elements(), group);
        }
        // Chunks of a multiple of `group` rows, so that each begins with a group.
        const int64_t n_cols = t.row_len();
        const int64_t chunk_rows =
            std::max<int64_t>(1, chunk_weights / std::max<int64_t>(1, n_cols * group)) * group;
        std::vector<float> scales(static_cast<size_t>(t.n_elements() / group));
        for (int64_t first = 0; first < t.n_rows(); first += chunk_rows) {
            const int64_t n = std::min(chunk_rows, t.n_rows() - first) * n_cols;
            floats_.resize(static_cast<size_t>(n));
            quants_.resize(static_cast<size_t>(n));
            float* const chunk_scales = scales.data() + first * n_cols / group;
            pool_.run([&](int member) {
                decode_part(t, first, n / n_cols, member);
                pool_.barrier();
                quantize_part(n / group, group, chunk_scales, member);
            });
            for (const bool failed : failures_) {
                if (failed) throw Error("{}: tensor {}: its values are not all finite", t.source, t.name);
            }
            put(quants_);
        }
        put(std::as_bytes(std::span(scales)));
    }

    void decode_part(const TensorView& t, int64_t first, int64_t n_rows, int member) {
        const int64_t n_cols = t.row_len(), n_members = pool_.size();
        for (int64_t r = n_rows * member / n_members; r < n_rows * (member + 1) / n_members; ++r) {
            decode_row(t.row(first + r), std::span(floats_).subspan(static_cast<size_t>(r * n_cols),
                                                                    static_cast<size_t>(n_cols)));
        }
    }

    void quantize_part(int64_t n_groups, int64_t group, float* scales, int member) {
        const int64_t n_members = pool_.size();
        for (int64_t g = n_groups * member / n_members; g < n_groups * (member + 1) / n_members; ++g) {
            const float* x = floats_.data() + g * group;
            float largest = 0;
            for (int64_t i = 0; i < group; ++i) {
                if (!std::isfinite(x[i])) {
                    failures_[static_cast<size_t>(member)] = 1;
                    return;
                }
                largest = std::max(largest, std::fabs(x[i]));
            }
            const float scale = largest / 127;
            scales[g] = scale;
            for (int64_t i = 0; i < group; ++i) {
                // An all-zero group: export.py divides zero by zero; zeros are what it means.
                const float q = scale == 0 ? 0 : std::nearbyint(x[i] / scale);
                quants_[static_cast<size_t>(g * group + i)] = static_cast<std::byte>(static_cast<int8_t>(q));
            }
        }
    }

    AtomicFile& file_;
    ThreadPool& pool_;
    ProgressMeter& progress_;
    std::vector<uint8_t> failures_;  // by member: a pool's job must not throw
    std::vector<float> floats_;
    std::vector<std::byte> quants_;
};

uint64_t tensor_bytes(const Qwen3cTensor& t, int64_t group) {
    uint64_t n = 1;
    for (const int64_t d : t.shape) n *= static_cast<uint64_t>(d);
    return t.quantized ? n + n / static_cast<uint64_t>(group) * sizeof(float) : n * sizeof(float);
}

}  // namespace

void write_qwen3c(const ModelFile& model, const std::filesystem::path& path, const Qwen3cTexts& texts,
                  const WriteOptions& options) {
    if (options.format && *options.format != Format::Q8_G64 && *options.format != Format::Q8_0) {
        throw Error("{}: qwen3.c's format holds q8_0 only, not {}", path.string(),
                    to_string(*options.format));
    }
    require_expressible(model, path.string());
    const Qwen3cHeader header = make_header(model);
    const std::vector<Qwen3cTensor> tensors = qwen3c_tensors(header);
    uint64_t total = 0;
    for (const Qwen3cTensor& t : tensors) total += tensor_bytes(t, header.group);

    std::vector<std::unique_ptr<AtomicFile>> files;
    const auto open = [&](std::string_view suffix) -> AtomicFile& {
        files.push_back(std::make_unique<AtomicFile>(path.string() + std::string(suffix)));
        return *files.back();
    };
    if (!texts.tokenizer.empty()) open(".tokenizer").write(texts.tokenizer);
    if (texts.prompts) {
        const Qwen3cPrompts& p = *texts.prompts;
        const std::array<const std::string*, 4> contents = {&p.plain, &p.thinking, &p.system,
                                                            &p.system_thinking};
        for (size_t i = 0; i < contents.size(); ++i) open(qwen3c_prompt_suffixes[i]).write(*contents[i]);
    }
    AtomicFile& bin = open("");
    bin.write(std::as_bytes(std::span(&qwen3c_magic, 1)));
    bin.write(std::as_bytes(std::span(&qwen3c_version, 1)));
    bin.write(std::as_bytes(std::span(&header, 1)));
    bin.write_zeros(qwen3c_header_bytes - bin.position());

    ThreadPool pool(options.n_threads);
    ProgressMeter progress(total, options);
    TensorWriter writer(bin, pool, progress);
    for (const Qwen3cTensor& t : tensors) writer.write(model.require(t.name), t, header.group);
    for (const auto& file : files) file->commit();
}

}  // namespace smelt
