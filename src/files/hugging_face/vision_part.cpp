// vision_config and preprocessor_config.json -> metadata, and names of tensors.
#include "files/hugging_face/vision_part.h"

#include <algorithm>

#include "base/error.h"
#include "files/families.h"
#include "files/known_keys.h"
#include "files/limits.h"
#include "files/model_file.h"

namespace smelt {

namespace {

constexpr std::string_view prefix = "model.visual.";

void fail(const std::string& source, std::string_view key, std::string_view expected, const Json& found) {
    throw Error("{}: {}: expected {}, found {}", source, key, expected, to_string(found).substr(0, 60));
}

int64_t integer_of(const Json& value, const std::string& source, std::string_view key) {
    if (!value.is_number_integer()) fail(source, key, "an integer", value);
    return value.get<int64_t>();
}

void read_key(const ConfigKey& key, const Json& value, const std::string& source, Metadata& metadata) {
    const std::string name = fmt::format("clip.{}", key.gguf);
    if (key.type == KeyType::integer) {
        metadata.set(name, integer_of(value, source, key.hf));
        return;
    }
    std::vector<int64_t> list;
    if (!value.is_array()) fail(source, key.hf, "a list of integers", value);
    for (const Json& item : value) list.push_back(integer_of(item, source, key.hf));
    metadata.set(name, std::move(list));
}

// What an image processor does has one way here; sizes and colours are the model's.
void read_preprocessor(const Json& json, const std::string& source, Metadata& metadata) {
    for (const char* key : {"do_resize", "do_rescale", "do_normalize", "do_convert_rgb"}) {
        if (json.contains(key) && json[key] != true && !json[key].is_null())
            fail(source, key, "true", json[key]);
    }
    const struct {
        const char* key;
        double expected;
    } numbers[] = {{"resample", 3}, {"temporal_patch_size", 2}};
    for (const auto& [key, expected] : numbers) {
        if (json.contains(key) && json[key] != expected)
            fail(source, key, fmt::format("{}", expected), json[key]);
    }
    if (const auto it = json.find("rescale_factor"); it != json.end()) {
        const bool fits = it->is_number() && std::abs(it->get<double>() * 255 - 1) < 1e-9;
        if (!fits) fail(source, "rescale_factor", "1/255", *it);
    }
    const auto same = [&](const char* key, const char* name) {
        const auto it = json.find(key);
        if (it == json.end() || it->is_null()) return;
        const auto own = metadata.get_int(name);
        if (integer_of(*it, source, key) != own.value_or(-1)) fail(source, key, "what config.json says", *it);
    };
    same("patch_size", "clip.vision.patch_size");
    same("merge_size", "clip.vision.spatial_merge_size");
    for (const char* key : {"image_mean", "image_std"}) {
        const auto it = json.find(key);
        if (it == json.end()) continue;
        std::vector<double> list;
        for (const Json& item : it->is_array() ? *it : Json::array()) {
            if (!item.is_number()) fail(source, key, "3 numbers", *it);
            list.push_back(item.get<double>());
        }
        metadata.set(fmt::format("clip.vision.{}", key), std::move(list));
    }
    const auto size = json.find("size");
    const struct {
        const char *in_size, *alone, *name;
    } pixels[] = {{"shortest_edge", "min_pixels", "clip.vision.image_min_pixels"},
                  {"longest_edge", "max_pixels", "clip.vision.image_max_pixels"}};
    for (const auto& [in_size, alone, name] : pixels) {
        if (json.contains(alone) && !json[alone].is_null()) {
            metadata.set(name, integer_of(json[alone], source, alone));
        } else if (size != json.end() && size->is_object() && size->contains(in_size)) {
            metadata.set(name, integer_of((*size)[in_size], source, in_size));
        }
    }
}

// What mmproj files say besides what the table reads; all of it is looked at below or changes nothing.
constexpr std::string_view known_keys[] = {"has_vision_encoder",
                                           "has_llava_projector",
                                           "projector_type",
                                           "vision.projector_type",
                                           "use_gelu",
                                           "use_silu",
                                           "vision.image_size",
                                           "vision.image_mean",
                                           "vision.image_std",
                                           "vision.image_min_pixels",
                                           "vision.image_max_pixels",
                                           "vision.is_deepstack_layers",
                                           "vision.attention.layer_norm_epsilon"};

void check_mmproj(const ModelFile& file, const Family& tower) {
    const auto said = [&](const char* key) {
        const std::string* text = file.metadata.get_string(key);
        return text == nullptr ? std::string("nothing") : *text;
    };
    if (said("general.architecture") != tower.architecture) {
        throw Error("{}: general.architecture: expected {}, found {}", file.path.string(), tower.architecture,
                    said("general.architecture"));
    }
    const char* type_key = file.metadata.find("clip.projector_type") != nullptr
                               ? "clip.projector_type"
                               : "clip.vision.projector_type";
    if (said(type_key) != "qwen3vl_merger")
        throw Error("{}: {}: expected qwen3vl_merger, found {}", file.path.string(), type_key,
                    said(type_key));
    if (!file.metadata.get_bool("clip.use_gelu").value_or(true))
        throw Error("{}: clip.use_gelu: expected true", file.path.string());
    for (const auto& [name, value] : file.metadata.values()) {
        if (!name.starts_with("clip.")) continue;
        const std::string_view key = std::string_view(name).substr(5);
        const bool known = std::ranges::find(known_keys, key) != std::end(known_keys) ||
                           std::ranges::find(tower.config, key, &ConfigKey::gguf) != tower.config.end();
        if (!known && value != MetadataValue(false))
            throw Error("{}: metadata {}: not known; it may change results", file.path.string(), name);
    }
}

// Learned positions are a square of patches; deep mergers are flags of layers.
void translate_mmproj(ModelFile& file) {
    Metadata& m = file.metadata;
    const int64_t size = m.get_int("clip.vision.image_size").value_or(0),
                  patch = m.get_int("clip.vision.patch_size").value_or(0);
    if (size < 1 || patch < 1 || size % patch != 0 || size > 1 << 20) {
        throw Error("{}: clip.vision.image_size: expected a multiple of patch_size {}, found {}",
                    file.path.string(), patch, size);
    }
    m.set("clip.vision.n_positions", size / patch * (size / patch));
    if (const auto* flags = m.get_ints("clip.vision.is_deepstack_layers")) {
        std::vector<int64_t> layers;
        for (size_t i = 0; i < flags->size(); ++i) {
            if ((*flags)[i] != 0) layers.push_back(static_cast<int64_t>(i));
        }
        if (!layers.empty()) m.set("clip.vision.deepstack_layers", std::move(layers));
    }
}

// GGUF has a convolution for each of two frames; as one product their columns take turns by colour.
void join_patches(ModelFile& file) {
    const TensorView first = file.require("v.patch_embd.weight"),
                     second = file.require("v.patch_embd.weight.1");
    if (first.shape != second.shape || first.shape.size() != 4 || first.shape[1] != 3) {
        throw Error("{}: v.patch_embd.weight: expected two convolutions of 3 colours and one shape",
                    first.source);
    }
    const int64_t n_rows = first.shape[0], n = first.shape[2] * first.shape[3];
    const std::vector<float> a = first.decoded(), b = second.decoded();
    std::vector<float> joined;
    joined.reserve(a.size() + b.size());
    for (size_t at = 0; at < a.size(); at += static_cast<size_t>(n)) {
        for (const auto* from : {&a, &b})
            joined.insert(joined.end(), from->begin() + static_cast<ptrdiff_t>(at),
                          from->begin() + static_cast<ptrdiff_t>(at) + n);
    }
    const auto bytes = std::as_bytes(std::span(joined));
    file.owned.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
    std::erase_if(file.tensors,
                  [](const TensorView& t) { return t.name.starts_with("v.patch_embd.weight"); });
    file.tensors.push_back(
        {"v.patch_embd.weight", Format::F32, {n_rows, 6 * n}, *file.owned.back(), {}, first.source});
}

}  // namespace

std::shared_ptr<ModelFile> read_vision_config(const Json& config, std::string_view preprocessor,
                                              const Family& family, const std::string& folder) {
    const auto it = config.find("vision_config");
    if (family.tower == nullptr || it == config.end() || !it->is_object()) return nullptr;
    auto vision = std::make_shared<ModelFile>();
    vision->path = folder;
    vision->container = Container::hugging_face;
    vision->metadata.set("general.architecture", std::string(family.tower->architecture));
    const std::string source = folder + "/config.json: vision_config";
    Json said = *it;
    const Json defaults = parse_json(family.tower->defaults, "defaults");
    for (const auto& [key, value] : defaults.items()) {
        if (!said.contains(key)) said[key] = value;
    }
    for (const ConfigKey& key : family.tower->config) {
        const auto value = said.find(std::string(key.hf));
        if (value != said.end() && !value->is_null()) read_key(key, *value, source, vision->metadata);
    }
    refuse_unknown_config(*it, *family.tower, source, *vision);
    if (const auto token = config.find("image_token_id"); token != config.end() && !token->is_null())
        vision->metadata.set("smelt.image_token_id", integer_of(*token, source, "image_token_id"));
    if (!preprocessor.empty()) {
        const std::string name = folder + "/preprocessor_config.json";
        const Json json = parse_json(preprocessor, name, {.max_bytes = limits::config_bytes});
        if (!json.is_object()) throw Error("{}: expected a JSON object", name);
        read_preprocessor(json, name, vision->metadata);
    }
    return vision;
}

bool take_vision_name(SafetensorsEntry& entry) {
    if (entry.name.starts_with("visual.")) entry.name = "model." + entry.name;
    if (!entry.name.starts_with(prefix)) return false;
    // A convolution over whole patches is a product with all their values.
    if (entry.shape.size() > 2) {
        int64_t n = 1;
        for (size_t i = 1; i < entry.shape.size(); ++i) n *= entry.shape[i];
        entry.shape = {entry.shape[0], n};
    }
    return true;
}

std::string vision_name(const Family& tower, const ModelFile& vision, const std::string& hf_name) {
    auto match = match_hf(tower, hf_name);
    if (!match) return hf_name;
    if (match->rule->presence == Presence::optional) {
        const auto* layers = vision.metadata.get_ints("clip.vision.deepstack_layers");
        if (layers == nullptr || match->layer >= std::ssize(*layers)) return hf_name;
        match->layer = (*layers)[static_cast<size_t>(match->layer)];
    }
    return gguf_name(*match);
}

std::shared_ptr<const ModelFile> with_mmproj(std::shared_ptr<const ModelFile> model,
                                             const std::filesystem::path& path) {
    if (path.empty()) return model;
    const Family* family = family_of(model->metadata);
    if (family == nullptr || family->tower == nullptr)
        throw Error("{}: {} takes no pictures", path.string(), model->path.string());
    auto vision = std::make_shared<ModelFile>(*open_model(path));
    check_mmproj(*vision, *family->tower);
    translate_mmproj(*vision);
    join_patches(*vision);
    refuse_unknown_tensors(*family->tower, *vision);
    if (const auto* tokens = model->metadata.get_strings("tokenizer.ggml.tokens")) {
        const auto it = std::ranges::find(*tokens, "<|image_pad|>");
        if (it != tokens->end())
            vision->metadata.set("smelt.image_token_id", static_cast<int64_t>(it - tokens->begin()));
    }
    auto both = std::make_shared<ModelFile>(*model);
    both->vision = std::move(vision);
    return both;
}

}  // namespace smelt
