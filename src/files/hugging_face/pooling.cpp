// modules.json and 1_Pooling/config.json.
#include "files/hugging_face/pooling.h"

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/json.h"
#include "base/mapped_file.h"
#include "files/limits.h"

namespace smelt {

namespace fs = std::filesystem;

namespace {

Json read_json(const fs::path& path) {
    const MappedFile file(path);
    return parse_json(file.text(), path.string(), {.max_bytes = limits::config_bytes});
}

// One of the modes is true; several are joined to a longer vector.
void read_modes(const fs::path& path, const std::string& key, ModelFile& model) {
    const Json config = read_json(path);
    if (!config.is_object()) throw Error("{}: expected a JSON object", path.string());
    std::optional<PoolingType> type;
    for (const auto& [name, value] : config.items()) {
        if (!name.starts_with("pooling_mode") || value != true) continue;
        const bool known = name == "pooling_mode_mean_tokens" || name == "pooling_mode_lasttoken";
        if (!known || type) {
            model.refused.push_back(
                fmt::format("{}: {}: expected pooling_mode_mean_tokens or pooling_mode_lasttoken alone",
                            path.string(), name));
        }
        type = name == "pooling_mode_lasttoken" ? PoolingType::last : PoolingType::mean;
    }
    if (const auto mode = config.find("pooling_mode"); mode != config.end() && mode->is_string()) {
        if (*mode == "lasttoken") {
            type = PoolingType::last;
        } else if (*mode == "mean") {
            type = PoolingType::mean;
        } else {
            model.refused.push_back(fmt::format("{}: pooling_mode: expected mean or lasttoken, found {}",
                                                path.string(), to_string(*mode)));
        }
    }
    if (type) model.metadata.set(key, static_cast<int64_t>(*type));
}

}  // namespace

void read_pooling(const fs::path& folder, ModelFile& model) {
    const fs::path list = folder / "modules.json";
    std::error_code error;
    const std::string* architecture = model.metadata.get_string("general.architecture");
    if (architecture == nullptr || !fs::exists(list, error)) return;
    const Json modules = read_json(list);
    const auto text = [&](const Json& module, const char* key) {
        const bool is_text = module.is_object() && module.contains(key) && module[key].is_string();
        if (!is_text) throw Error("{}: expected a list of modules with type and path", list.string());
        return module[key].get<std::string>();
    };
    if (!modules.is_array()) throw Error("{}: expected a list of modules", list.string());
    for (const Json& module : modules) {
        const std::string type = text(module, "type"), path = text(module, "path");
        if (type.ends_with(".Transformer") || type.ends_with(".Normalize"))
            continue;  // vectors have length 1
        if (!type.ends_with(".Pooling")) {
            model.refused.push_back(fmt::format("{}: module {} is not known; it changes embeddings",
                                                list.string(), to_string(Json(type))));
        } else if (fs::path(path).is_absolute() || path.find("..") != std::string::npos) {
            throw Error("{}: path: expected one in the folder, found {}", list.string(),
                        to_string(Json(path)));
        } else {
            read_modes(folder / path / "config.json", *architecture + ".pooling_type", model);
        }
    }
}

void write_pooling(const ModelFile& model, const fs::path& folder) {
    const std::string* architecture = model.metadata.get_string("general.architecture");
    if (architecture == nullptr) return;
    const auto type = model.metadata.get_int(*architecture + ".pooling_type");
    if (!type || *type == static_cast<int64_t>(PoolingType::none)) return;
    const std::string package = "sentence_transformers.models.";
    const Json modules = {
        {{"idx", 0}, {"name", "0"}, {"path", ""}, {"type", package + "Transformer"}},
        {{"idx", 1}, {"name", "1"}, {"path", "1_Pooling"}, {"type", package + "Pooling"}},
        {{"idx", 2}, {"name", "2"}, {"path", "2_Normalize"}, {"type", package + "Normalize"}}};
    const Json pooling = {
        {"word_embedding_dimension", model.metadata.get_int(*architecture + ".embedding_length").value_or(0)},
        {"pooling_mode_mean_tokens", *type == static_cast<int64_t>(PoolingType::mean)},
        {"pooling_mode_lasttoken", *type == static_cast<int64_t>(PoolingType::last)}};
    fs::create_directories(folder / "1_Pooling");
    for (const auto& [path, json] :
         {std::pair{folder / "modules.json", modules}, {folder / "1_Pooling" / "config.json", pooling}}) {
        AtomicFile file(path);
        file.write(json.dump(2) + "\n");
        file.commit();
    }
}

}  // namespace smelt
