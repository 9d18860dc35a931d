// From an opened file to a loaded model, by the list of families.
#include "model/model.h"

#include <fmt/ranges.h>

#include <algorithm>

#include "base/edit_distance.h"
#include "base/error.h"
#include "files/families.h"
#include "files/known_keys.h"
#include "model/weight_loader.h"

namespace smelt {

std::vector<std::string> list_architectures() {
    std::vector<std::string> names;
    for (const Family* f : all_families()) {
        if (std::ranges::find(names, f->architecture) == names.end()) names.emplace_back(f->architecture);
    }
    return names;
}

std::unique_ptr<Model> load_model(std::shared_ptr<const ModelFile> file, Backend& backend) {
    const std::string* name = file->metadata.get_string("general.architecture");
    if (name == nullptr) throw Error("{}: general.architecture: missing", file->path.string());
    const Family* family = family_of(file->metadata);
    const auto known = list_architectures();
    if (family == nullptr && std::ranges::find(known, *name) != known.end()) {
        const MetadataValue* experts = file->metadata.find(*name + ".expert_count");
        const bool some = experts != nullptr && *experts != MetadataValue(int64_t{0});
        throw Error("{}: {}.expert_count: smelt knows {} {} experts alone", file->path.string(), *name, *name,
                    some ? "without" : "with");
    }
    if (family == nullptr) {
        std::vector<std::string> model_types;
        for (const Family* f : all_families()) model_types.emplace_back(f->model_type);
        // Of either container, as it says the name.
        std::string nearest = nearest_word(*name, model_types);
        if (nearest.empty()) nearest = nearest_word(*name, known);
        if (!nearest.empty()) nearest = fmt::format(" (the nearest that is known is {})", nearest);
        throw Error("{}: architecture \"{}\" is not known{}; smelt runs {}; of config.json's model_type {}",
                    file->path.string(), *name, nearest, fmt::join(known, ", "),
                    fmt::join(model_types, ", "));
    }
    const ModelConfig config = read_config(*file, *family);
    require_known(*file);
    if (const auto missing = missing_tensors(*file); !missing.empty()) (void)file->require(missing.front());
    std::vector<std::unique_ptr<Storage>> mapped;
    for (const auto& mapping : file->mappings) mapped.push_back(backend.map_file(mapping->bytes()));
    WeightLoader load(*file, *family, config, backend);
    std::unique_ptr<Model> model = family->make(load, config);
    if (file->vision != nullptr) {
        for (const auto& mapping : file->vision->mappings)
            mapped.push_back(backend.map_file(mapping->bytes()));
        model->vision_ = std::make_unique<VisionTower>(*file->vision, *family->tower, config.dim, backend);
    }
    model->weight_bytes_ = load.weight_bytes();
    model->step_bytes_ = load.step_bytes();
    model->made_ = load.take_made();
    model->places_ = load.take_places();
    model->mapped_ = std::move(mapped);
    model->file_ = std::move(file);
    return model;
}

}  // namespace smelt
