// Published configs through the reader of config.json, the families' tables, and the random bytes.
#include "apps/shapes.h"

#include <fmt/ranges.h>

#include <array>
#include <cstring>
#include <map>
#include <numeric>
#include <utility>

#include "base/cpu_info.h"
#include "base/error.h"
#include "base/json.h"
#include "files/families.h"
#include "files/readers.h"
#include "files/sizes.h"
#include "quant/random_weights.h"

namespace smelt {

namespace {

struct Spec {
    std::string name;
    std::vector<int64_t> shape;
    enum { matrix, experts, router, norm, bias, decay } kind;
};

struct Plan {
    const Family* family;
    Metadata metadata;
    std::vector<Spec> tensors;
};

Plan make_plan(const Shape& s) {
    ModelFile file;
    file.path = s.name;
    file.container = Container::gguf;
    file.metadata = read_hf_config(s.config, "", s.name);
    fill_defaults(file);
    Plan plan{family_of(file.metadata), std::move(file.metadata), {}};
    plan.metadata.set("general.name", s.name);
    const Sizes sizes(*plan.family, plan.metadata);
    for (const RuleMatch& match : list_tensors(*plan.family, plan.metadata, true)) {
        Spec t{gguf_name(match), sizes.shape(match.rule->shape), Spec::matrix};
        if (t.name.ends_with("_exps.weight")) t.kind = Spec::experts;
        if (t.name.ends_with("ffn_gate_inp.weight")) t.kind = Spec::router;
        if (t.shape.size() == 1) t.kind = t.name.ends_with("norm.weight") ? Spec::norm : Spec::bias;
        if (t.name.ends_with(".bias")) t.kind = Spec::bias;
        if (match.rule->role == TensorRole::channels) t.kind = Spec::bias;  // short rows of floats
        if (match.rule->role == TensorRole::decay) t.kind = Spec::decay;
        plan.tensors.push_back(std::move(t));
    }
    return plan;
}

int64_t n_elements(const Spec& t) {
    return std::accumulate(t.shape.begin(), t.shape.end(), int64_t{1}, std::multiplies<>());
}

// As published files have it: routers stay exact, and with gpt-oss's MXFP4 all but the experts.
Format format_of(const Spec& t, const Plan& plan, Format format) {
    const bool mxfp4 = format == Format::MXFP4 || format == Format::MXFP4_HF;
    if (t.kind == Spec::experts) return format;
    if (t.kind == Spec::matrix) return mxfp4 && plan.family->mixture ? Format::BF16 : format;
    return Format::F32;
}

// Making billions of values one by one would take minutes: a pool of rows is made once, and every row of
// every matrix is a copy of one of them. Kernels read as many bytes as with a real model.
class RowPool {
 public:
    RowPool(Format format, int64_t row_len) : format_(format), row_len_(row_len) {
        for (size_t r = 0; r < rows; ++r) {
            data_[r].resize(data_bytes(format, row_len));
            scales_[r].resize(scale_bytes(format, row_len));
            random_row(format, row_len, next(), 0.02f, data_[r].data(), scales_[r].data());
        }
    }

    void fill(std::byte* data, std::byte* scales, int64_t n_rows) {
        for (int64_t i = 0; i < n_rows; ++i) {
            const size_t r = next() % rows;
            std::memcpy(data + data_bytes(format_, i * row_len_), data_[r].data(), data_[r].size());
            if (scales != nullptr) {
                std::memcpy(scales + scale_bytes(format_, i * row_len_), scales_[r].data(),
                            scales_[r].size());
            }
        }
    }

 private:
    static constexpr size_t rows = 61;

    uint64_t next() {
        state_ = state_ * 6364136223846793005u + 1442695040888963407u;
        return state_ >> 33;
    }
    Format format_;
    int64_t row_len_;
    uint64_t state_ = 0x9e3779b97f4a7c15u;
    std::array<std::vector<std::byte>, rows> data_, scales_;
};

}  // namespace

std::vector<Shape> list_shapes() {
    std::vector<Shape> shapes;
    for (const Family* family : all_families()) {
        const auto layers = std::ranges::find(family->config, "n_layers", &ConfigKey::size);
        for (const PublishedModel& model : family->published) {
            Json config = parse_json(model.config, model.name);
            config["model_type"] = std::string(family->model_type);
            if (!config.contains("tie_word_embeddings")) config["tie_word_embeddings"] = family->tied;
            shapes.push_back({std::string(model.name), std::string(family->architecture), to_string(config),
                              config[std::string(layers->hf)].get<int64_t>()});
        }
    }
    return shapes;
}

Shape find_shape(const std::string& name) {
    std::vector<std::string> names;
    for (Shape& s : list_shapes()) {
        if (s.name == name) return std::move(s);
        names.push_back(s.name);
    }
    throw Error("shape {}: not known; known are {}", name, fmt::join(names, ", "));
}

Shape with_layers(Shape shape, int64_t n_layers) {
    Json config = parse_json(shape.config, shape.name);
    const Family* family = family_of_model_type(config["model_type"].get<std::string>());
    const auto layers = std::ranges::find(family->config, "n_layers", &ConfigKey::size);
    config[std::string(layers->hf)] = n_layers;
    shape.config = to_string(config);
    shape.n_layers = n_layers;
    return shape;
}

int64_t n_parameters(const Shape& shape) {
    int64_t n = 0;
    for (const Spec& t : make_plan(shape).tensors) n += n_elements(t);
    return n;
}

std::shared_ptr<const ModelFile> make_random_model(const Shape& s, Format format) {
    Plan plan = make_plan(s);
    const uint64_t available = read_memory_info().available;
    uint64_t needed = 0;
    for (const Spec& t : plan.tensors) {
        const Format f = format_of(t, plan, format);
        needed += data_bytes(f, n_elements(t)) + scale_bytes(f, n_elements(t));
    }
    if (needed > available) {
        throw Error("{} in {} needs {:.1f} GB of memory, {:.1f} GB are free", s.name, to_string(format),
                    static_cast<double>(needed) / 1e9, static_cast<double>(available) / 1e9);
    }
    auto file = std::make_shared<ModelFile>();
    file->path = s.name;
    file->container = Container::gguf;
    file->container_version = "random weights in memory";
    file->metadata = std::move(plan.metadata);

    std::map<std::pair<Format, int64_t>, RowPool> pools;  // by format and row length
    for (const Spec& t : plan.tensors) {
        const bool is_matrix = t.kind != Spec::norm && t.kind != Spec::bias && t.kind != Spec::decay;
        const Format f = format_of(t, plan, format);
        const int64_t n = n_elements(t), row_len = t.shape.back();
        TensorView view{
            .name = t.name, .format = f, .shape = t.shape, .data = {}, .scales = {}, .source = s.name};
        if (row_len % format_info(f).block_len != 0) {
            throw Error("{}: rows of {} are no whole blocks of {}", t.name, row_len, to_string(f));
        }
        const size_t data_size = data_bytes(f, n), scale_size = scale_bytes(f, n);
        auto bytes = std::make_shared<std::vector<std::byte>>(data_size + scale_size);
        if (is_matrix) {
            RowPool& pool = pools.try_emplace({f, row_len}, f, row_len).first->second;
            pool.fill(bytes->data(), scale_size > 0 ? bytes->data() + data_size : nullptr, n / row_len);
        } else if (t.kind == Spec::norm || t.kind == Spec::decay) {
            const std::vector<float> ones(static_cast<size_t>(n), t.kind == Spec::norm ? 1.0f : -1.0f);
            std::memcpy(bytes->data(), ones.data(), bytes->size());
        }
        view.data = std::span(*bytes).first(data_size);
        view.scales = std::span(*bytes).subspan(data_size);
        file->owned.push_back(std::move(bytes));
        file->tensors.push_back(std::move(view));
    }
    return file;
}

}  // namespace smelt
