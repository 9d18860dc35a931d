// Both containers are read into pairs of matrices; what a pair must fulfil is checked in one place.
#include "files/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "base/ascii.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "files/conversion.h"
#include "files/families.h"
#include "files/gguf/gguf_types.h"
#include "files/readers.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

// More than any adapter has; a rank beyond it costs more than the matrix.
constexpr int64_t max_rank = 4096;

// A tensor of an adapter as floats.
struct Factor {
    std::string name;  // the adapter's
    std::vector<int64_t> shape;
    std::vector<float> values;
};

struct Pair {
    std::optional<Factor> a, b;
};

Factor read_factor(std::string name, const std::vector<int64_t>& shape, Format format,
                   std::span<const std::byte> data, const std::string& source) {
    const TensorView view{name, format, shape, data, {}, source};
    if (shape.size() != 2) {
        throw Error("{}: tensor {}: expected a matrix, found shape {}", source, name, shape_text(shape));
    }
    Factor factor{std::move(name), shape, view.decoded()};
    if (!std::ranges::all_of(factor.values, [](float v) { return std::isfinite(v); }))
        throw Error("{}: tensor {}: has values that are not finite", source, factor.name);
    return factor;
}

// Rows of B in the order in which the model's file has those of W.
void reorder_rows(LowRank& update, const RuleMatch& match, const std::string& from, const ModelFile& model,
                  const std::string& source) {
    const std::string* to = model.metadata.get_string("smelt.rope.pairing");
    if (match.rule->role != TensorRole::rotary || to == nullptr || *to == from) return;
    const std::string* architecture = model.metadata.get_string("general.architecture");
    const int64_t head_dim = model.metadata.get_int(*architecture + ".attention.key_length").value_or(0);
    const auto n = static_cast<int64_t>(update.b.size()) / update.rank;
    if (head_dim < 2 || head_dim % 2 != 0 || n % head_dim != 0)
        throw Error("{}: {}: expected rows in heads of {}, found {}", source, update.tensor, head_dim, n);
    const RowOrder order = *to == "interleaved" ? RowOrder::halves_to_pairs : RowOrder::pairs_to_halves;
    std::vector<float> rows(update.b.size());
    for (int64_t r = 0; r < n; ++r) {
        std::copy_n(update.b.begin() + source_row(order, head_dim, r) * update.rank, update.rank,
                    rows.begin() + r * update.rank);
    }
    update.b = std::move(rows);
}

// The one check of a pair: that the model has such a matrix, and the shapes.
LowRank make_update(const RuleMatch& match, Pair pair, const ModelFile& model, const std::string& source) {
    const std::string name = gguf_name(match);
    if (!pair.a || !pair.b) {
        throw Error("{}: {}: has {} alone, the other half is missing", source, name,
                    pair.a ? pair.a->name : pair.b->name);
    }
    const TensorView& w = model.require(name);
    if (match.rule->role == TensorRole::embedding || match.expert >= 0 || w.shape.size() != 2 ||
        !match.rule->heads_from.empty()) {
        throw Error("{}: {}: expected an update of a dense matrix, found one of {}", source, pair.a->name,
                    name);
    }
    const int64_t rank = pair.a->shape[0];
    if (rank < 1 || rank > max_rank)
        throw Error("{}: {}: expected a rank of 1 to {}, found {}", source, pair.a->name, max_rank, rank);
    const auto expect = [&](const Factor& f, std::vector<int64_t> shape) {
        if (f.shape == shape) return;
        throw Error("{}: tensor {}: expected shape {}, found {}", source, f.name, shape_text(shape),
                    shape_text(f.shape));
    };
    expect(*pair.a, {rank, w.shape[1]});
    expect(*pair.b, {w.shape[0], rank});
    return {name, rank, 1, std::move(pair.a->values), std::move(pair.b->values)};
}

// adapter_config.json: keys that act, keys that change nothing once an adapter is trained, and all others,
// which must be null, false or empty.
class PeftConfig {
 public:
    PeftConfig(const Json& json, std::string source) : json_(json), source_(std::move(source)) {
        if (!json.is_object()) throw Error("{}: expected an object", source_);
        if (text("peft_type") != "LORA")
            throw Error("{}: peft_type: expected LORA, found {}", source_, text("peft_type"));
        if (const auto bias = json.value("bias", Json("none")); bias != "none")
            throw Error("{}: bias: expected none, found {}", source_, to_string(bias));
        refuse_others();
        rank_ = positive("r");
        alpha_ = number("lora_alpha", json_.contains("lora_alpha") ? json_["lora_alpha"] : Json());
        const Json rslora = json_.value("use_rslora", Json(false));
        if (!rslora.is_boolean())
            throw Error("{}: use_rslora: expected true or false, found {}", source_, to_string(rslora));
        by_root_ = rslora.get<bool>();
    }

    int64_t rank(std::string_view module) const {
        const Json* own = pattern("rank_pattern", module);
        if (own == nullptr) return rank_;
        if (!own->is_number_integer() || *own < 1 || *own > max_rank)
            throw Error("{}: rank_pattern: expected a rank of 1 to {}, found {}", source_, max_rank,
                        to_string(*own));
        return own->get<int64_t>();
    }
    float scale(std::string_view module) const {
        const Json* own = pattern("alpha_pattern", module);
        const double alpha = own == nullptr ? alpha_ : number("alpha_pattern", *own);
        const auto r = static_cast<double>(rank(module));
        return static_cast<float>(alpha / (by_root_ ? std::sqrt(r) : r));
    }
    void check_layer(int64_t layer, const std::string& name) const {
        const Json list = json_.value("layers_to_transform", Json());
        if (list.is_null() || layer < 0) return;
        const Json all = list.is_array() ? list : Json::array({list});
        if (std::ranges::find(all, Json(layer)) == all.end())
            throw Error("{}: layers_to_transform: {} has tensor {}", source_, to_string(list), name);
    }

 private:
    void refuse_others() const {
        static constexpr std::string_view known[] = {
            "peft_type", "peft_version", "r", "lora_alpha", "use_rslora", "rank_pattern", "alpha_pattern",
            "layers_to_transform", "bias",
            // For training, or for finding modules, which the tensors' names say.
            "auto_mapping", "base_model_name_or_path", "revision", "inference_mode", "task_type",
            "lora_dropout", "target_modules", "exclude_modules", "layers_pattern", "megatron_core",
            "qalora_group_size",
            // A merge alone would need it; factors are stored the same way.
            "fan_in_fan_out"};
        for (const auto& [key, value] : json_.items()) {
            if (std::ranges::find(known, key) != std::end(known)) continue;
            // Other ways to begin change the base model's weights.
            if (key == "init_lora_weights" && (value.is_boolean() || value == "gaussian")) continue;
            if (value.is_null() || value == false ||
                ((value.is_array() || value.is_object()) && value.empty()))
                continue;
            throw Error("{}: {}: is not supported, found {}", source_, key, to_string(value));
        }
    }
    std::string text(const char* key) const {
        const Json value = json_.value(key, Json());
        return value.is_string() ? value.get<std::string>() : to_string(value);
    }
    double number(std::string_view key, const Json& value) const {
        if (!value.is_number() || !std::isfinite(value.get<double>()))
            throw Error("{}: {}: expected a number, found {}", source_, key, to_string(value));
        return value.get<double>();
    }
    int64_t positive(const char* key) const {
        const Json value = json_.value(key, Json());
        if (!value.is_number_integer() || value < 1 || value > max_rank)
            throw Error("{}: {}: expected a rank of 1 to {}, found {}", source_, key, max_rank,
                        to_string(value));
        return value.get<int64_t>();
    }
    // The value of the first key that is the module's name or its end. PEFT's keys are regular expressions;
    // those that use it are refused.
    const Json* pattern(const char* key, std::string_view module) const {
        const auto it = json_.find(key);
        if (it == json_.end() || it->is_null()) return nullptr;
        if (!it->is_object()) throw Error("{}: {}: expected an object", source_, key);
        for (const auto& [name, value] : it->items()) {
            std::string_view end = name;
            if (end.starts_with('^')) end.remove_prefix(1);
            if (end.empty() || end.find_first_of("*+?[](){}|^$\\") != std::string_view::npos)
                throw Error("{}: {}: expected names of modules, found the pattern {}", source_, key, name);
            const bool whole = module == end;
            const bool tail = !name.starts_with('^') && module.size() > end.size() && module.ends_with(end) &&
                              module[module.size() - end.size() - 1] == '.';
            if (whole || tail) return &value;
        }
        return nullptr;
    }

    const Json& json_;
    std::string source_;
    int64_t rank_ = 0;
    double alpha_ = 0;
    bool by_root_ = false;
};

// Pairs in the order of their first tensor.
struct Named {
    RuleMatch match;
    std::string module;  // PEFT's name of it
    Pair pair;
};
Pair& pair_of(std::vector<Named>& all, const RuleMatch& match, std::string_view module) {
    const auto same = [&](const Named& n) { return gguf_name(n.match) == gguf_name(match); };
    const auto it = std::ranges::find_if(all, same);
    if (it != all.end()) return it->pair;
    return all.emplace_back(Named{match, std::string(module), {}}).pair;
}

Adapter read_peft(const fs::path& folder, const ModelFile& model, const Family& family) {
    const MappedFile config_file(folder / "adapter_config.json");
    const std::string config_name = config_file.path().string();
    const Json json = parse_json(config_file.text(), config_name);
    const PeftConfig config(json, config_name);
    const MappedFile weights(folder / "adapter_model.safetensors");
    const std::string source = weights.path().string();

    std::vector<Named> all;
    for (const SafetensorsEntry& entry : read_safetensors(weights.bytes(), source)) {
        constexpr std::string_view prefix = "base_model.model.",
                                   ends[] = {".lora_A.weight", ".lora_B.weight"};
        const std::string_view name = entry.name;
        const bool is_a = name.ends_with(ends[0]);
        if (!name.starts_with(prefix) || (!is_a && !name.ends_with(ends[1])))
            throw Error("{}: tensor {}: expected {}MODULE.lora_A.weight or lora_B.weight", source, name,
                        prefix);
        const std::string_view module =
            name.substr(prefix.size(), name.size() - prefix.size() - ends[0].size());
        const auto match = match_hf(family, std::string(module) + ".weight");
        if (!match || match->rule->gguf.empty())
            throw Error("{}: tensor {}: {} models have no matrix {}", source, name, family.architecture,
                        module);
        config.check_layer(match->layer, entry.name);
        const auto format = format_from_name(ascii_lower(entry.dtype));
        if (!format || format_info(*format).block_len != 1)
            throw Error("{}: tensor {}: expected F32, F16 or BF16, found {}", source, name, entry.dtype);
        ModelFile copies;  // of bytes that are not aligned
        auto& half = is_a ? pair_of(all, *match, module).a : pair_of(all, *match, module).b;
        if (half) throw Error("{}: two tensors with the name {}", source, name);
        const auto element = static_cast<size_t>(format_info(*format).block_bytes);
        half = read_factor(entry.name, entry.shape, *format, aligned(entry.data, element, copies), source);
    }

    Adapter adapter{folder, {}};
    for (Named& n : all) {
        LowRank update = make_update(n.match, std::move(n.pair), model, source);
        if (const int64_t rank = config.rank(n.module); rank != update.rank)
            throw Error("{}: {}: expected rank {}, found {}", source, n.module, rank, update.rank);
        update.scale = config.scale(n.module);
        reorder_rows(update, n.match, "half", model, source);
        adapter.updates.push_back(std::move(update));
    }
    return adapter;
}

Adapter read_gguf_adapter(const fs::path& path, const ModelFile& model, const Family& family) {
    const MappedFile file(path);
    const std::string source = path.string();
    ModelFile content;
    content.path = path;
    read_gguf(file.bytes(), source, content);
    const auto expect = [&](const char* key, std::string_view wanted) {
        const std::string* found = content.metadata.get_string(key);
        if (found == nullptr || *found != wanted)
            throw Error("{}: {}: expected {}, found {}", source, key, wanted, found ? *found : "none");
    };
    expect("general.type", "adapter");
    expect("adapter.type", "lora");
    expect("general.architecture", family.architecture);
    const double alpha = content.metadata.get_double("adapter.lora.alpha").value_or(0);
    if (!std::isfinite(alpha)) throw Error("{}: adapter.lora.alpha: is not finite", source);
    for (const auto& [key, value] : content.metadata.values()) {
        if (key.starts_with("adapter.") && key != "adapter.type" && key != "adapter.lora.alpha")
            throw Error("{}: {}: is not supported", source, key);
    }
    if (!content.unsupported.empty())
        throw Error("{}: tensor {}: number format {} is not supported by this build", source,
                    content.unsupported.front().name, content.unsupported.front().type);

    std::vector<Named> all;
    for (const TensorView& t : content.tensors) {
        const std::string_view name = t.name;
        const bool is_a = name.ends_with(".lora_a");
        if (!is_a && !name.ends_with(".lora_b"))
            throw Error("{}: tensor {}: expected NAME.lora_a or NAME.lora_b", source, name);
        const std::string_view base = name.substr(0, name.size() - std::strlen(".lora_a"));
        const auto match = match_gguf(family, base);
        if (!match)
            throw Error("{}: tensor {}: {} models have no {}", source, name, family.architecture, base);
        auto& half = is_a ? pair_of(all, *match, base).a : pair_of(all, *match, base).b;
        if (half) throw Error("{}: two tensors with the name {}", source, name);
        half = read_factor(t.name, t.shape, t.format, t.data, source);
    }

    Adapter adapter{path, {}};
    for (Named& n : all) {
        LowRank update = make_update(n.match, std::move(n.pair), model, source);
        // llama.cpp takes an alpha of zero for a scale of one.
        if (alpha != 0) update.scale = static_cast<float>(alpha / static_cast<double>(update.rank));
        reorder_rows(update, n.match, family.gguf_interleaved ? "interleaved" : "half", model, source);
        adapter.updates.push_back(std::move(update));
    }
    return adapter;
}

}  // namespace

Adapter read_adapter(const fs::path& path, const ModelFile& model) {
    const Family* family = family_of(model.metadata);
    if (family == nullptr)
        throw Error("{}: its architecture is not known, so no adapter fits", model.path.string());
    Adapter adapter =
        fs::is_directory(path) ? read_peft(path, model, *family) : read_gguf_adapter(path, model, *family);
    if (adapter.updates.empty()) throw Error("{}: has no tensors", path.string());
    return adapter;
}

ModelFile merged(const ModelFile& model, const Adapter& adapter, double factor) {
    ModelFile result = model;
    for (const LowRank& u : adapter.updates) {
        auto& t = *std::ranges::find(result.tensors, u.tensor, &TensorView::name);
        if (!format_info(t.format).can_encode || !t.scales.empty()) {
            throw Error("{}: {}: no weights of format {} can be made; convert the model first", t.source,
                        t.name, format_info(t.format).name);
        }
        const size_t row_bytes = t.data.size() / static_cast<size_t>(t.n_rows());
        std::vector<std::byte> bytes(t.data.size());
        std::vector<float> row(static_cast<size_t>(t.row_len()));
        std::vector<double> sum(row.size());
        for (int64_t r = 0; r < t.n_rows(); ++r) {
            decode_row(t.row(r), row);
            std::ranges::fill(sum, 0.0);
            for (int64_t k = 0; k < u.rank; ++k) {
                const double b = u.b[static_cast<size_t>(r * u.rank + k)];
                const float* a = u.a.data() + k * t.row_len();
                for (size_t c = 0; c < row.size(); ++c) sum[c] += b * static_cast<double>(a[c]);
            }
            for (size_t c = 0; c < row.size(); ++c)
                row[c] = static_cast<float>(static_cast<double>(row[c]) +
                                            factor * static_cast<double>(u.scale) * sum[c]);
            encode_row(t.format, row, bytes.data() + static_cast<size_t>(r) * row_bytes, nullptr);
        }
        result.owned.push_back(std::make_shared<const std::vector<std::byte>>(std::move(bytes)));
        t.data = *result.owned.back();
    }
    return result;
}

}  // namespace smelt
