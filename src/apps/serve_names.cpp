// Names: NAME=PATH, --name, those of the config file, and else the file's own.
#include "apps/serve_names.h"

#include <algorithm>
#include <utility>

namespace smelt {

namespace {

// "small=models/demo-5m", or a path whose last part is the name.
std::pair<std::string, std::string> split_model(const std::string& text) {
    const size_t equals = text.find('=');
    const bool named = equals != std::string::npos && text.find('/') > equals;
    if (named) return {text.substr(0, equals), text.substr(equals + 1)};
    std::filesystem::path path(text);
    if (path.filename().empty()) path = path.parent_path();
    const bool is_file =
        path.extension() == ".gguf" || path.extension() == ".onnx" || path.extension() == ".bin";
    return {is_file ? path.stem().string() : path.filename().string(), text};
}

// "large,gpt-4o": a name, then more names for the same model.
void set_names(ConfigModel& m, const std::string& text) {
    const size_t comma = text.find(',');
    m.name = text.substr(0, comma);
    for (size_t at = comma; at != std::string::npos;) {
        const size_t end = text.find(',', at + 1);
        m.aliases.push_back(text.substr(at + 1, end == std::string::npos ? end : end - at - 1));
        at = end;
    }
}

// Two models of one name would leave one of them out of reach.
void check_names(const std::vector<ConfigModel>& models) {
    std::vector<std::string> names;
    for (const ConfigModel& m : models) {
        std::vector<std::string> own = m.aliases;
        own.push_back(m.name);
        for (const std::string& name : own) {
            if (std::ranges::find(names, name) != names.end()) {
                throw CLI::ValidationError(
                    name, "two models have this name; NAME=PATH or --name gives one of them another");
            }
            names.push_back(name);
        }
    }
}

}  // namespace

std::vector<ConfigModel> name_models(const std::vector<std::string>& given,
                                     const std::vector<std::string>& names, std::vector<ConfigModel> models) {
    for (ConfigModel& m : models) {
        if (m.name.empty()) m.name = split_model(m.path).first;
    }
    if (names.size() > given.size()) throw CLI::ValidationError("--name", "there are more names than models");
    const size_t n_configured = models.size();
    for (size_t i = 0; i < given.size(); ++i) {
        const auto [name, path] = split_model(given[i]);
        ConfigModel model{.name = {}, .path = path};
        set_names(model, i < names.size() ? names[i] : name);
        const auto end = models.begin() + static_cast<std::ptrdiff_t>(n_configured);
        const auto known = std::ranges::find(models.begin(), end, model.name, &ConfigModel::name);
        if (known == end) {
            models.push_back(std::move(model));
        } else {
            known->path = path;
        }
    }
    check_names(models);
    return models;
}

}  // namespace smelt
