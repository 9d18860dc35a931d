// vision_config and preprocessor_config.json -> metadata, and names of tensors.
#include "files/vision_part.h"

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

}  // namespace smelt
