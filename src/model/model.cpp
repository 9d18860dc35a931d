// From an opened file to a loaded model, by the list of architectures.
#include "model/model.h"

#include <fmt/ranges.h>

#include "base/error.h"
#include "files/families.h"
#include "model/architectures.h"

namespace smelt {

namespace {

using Make = std::unique_ptr<Model> (*)(WeightLoader&, const ModelConfig&);

struct Architecture {
    std::string name;
    Make make;
};

const Architecture architectures[] = {
#define X(make, name) {name, make_##make},
    ARCHITECTURES(X)
#undef X
};

}  // namespace

std::vector<std::string> list_architectures() {
    std::vector<std::string> names;
    for (const Architecture& a : architectures) names.push_back(a.name);
    return names;
}

std::unique_ptr<Model> load_model(std::shared_ptr<const ModelFile> file, Backend& backend) {
    const std::string* name = file->metadata.get_string("general.architecture");
    if (name == nullptr) throw Error("{}: general.architecture: missing", file->path.string());
    for (const Architecture& a : architectures) {
        if (a.name != *name) continue;
        std::vector<std::unique_ptr<Storage>> mapped;
        for (const auto& mapping : file->mappings) mapped.push_back(backend.map_file(mapping->bytes()));
        WeightLoader load(*file, backend);
        std::unique_ptr<Model> model = a.make(load, read_config(*file));
        model->weight_bytes_ = load.weight_bytes();
        model->step_bytes_ = load.step_bytes();
        model->made_ = load.take_made();
        model->mapped_ = std::move(mapped);
        model->file_ = std::move(file);
        return model;
    }
    std::vector<std::string_view> model_types;
    for (const Family& f : all_families()) model_types.push_back(f.model_type);
    throw Error("{}: architecture \"{}\" is not known; smelt runs {}; of config.json's model_type {}",
                file->path.string(), *name, fmt::join(list_architectures(), ", "),
                fmt::join(model_types, ", "));
}

}  // namespace smelt
