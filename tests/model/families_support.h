// What tests of the families' tables share: why a model does not load, and folders of random weights.
#pragma once

#include "files/families.h"

#include <map>
#include <random>

#include "base/json.h"
#include "engine/forward.h"
#include "files/files_support.h"
#include "files/readers.h"
#include "files/sizes.h"
#include "files/writers.h"
#include "model/model.h"

namespace smelt {

inline std::string load_error(std::shared_ptr<const ModelFile> file) {
    try {
        const auto backend = make_reference_backend();
        (void)load_model(std::move(file), *backend);
        return {};
    } catch (const Error& e) {
        return e.what();
    }
}

// A folder with random weights of the shapes in its family's table.
class Folder {
 public:
    explicit Folder(Json config) : config_(std::move(config)) { add_all(); }

    std::vector<float>& values(const std::string& name) { return tensors_.at(name).values; }
    bool has(const std::string& name) const { return tensors_.contains(name); }
    void erase(const std::string& name) { tensors_.erase(name); }
    void add(const std::string& name, std::vector<int64_t> shape) {
        size_t n = 1;
        for (const int64_t d : shape) n *= static_cast<size_t>(d);
        std::vector<float> values(n);
        // By name, so that the same tensor is the same in every folder.
        std::minstd_rand random(static_cast<unsigned>(std::hash<std::string>{}(name)));
        std::normal_distribution<float> normal(0, shape.size() == 1 ? 0.3f : 0.2f);
        for (float& v : values) v = normal(random) + (name.find("norm") != std::string::npos ? 1.0f : 0.0f);
        tensors_[name] = {std::move(shape), std::move(values)};
    }

    std::shared_ptr<const ModelFile> open() const {
        Json header = Json::object();
        std::string data;
        for (const auto& [name, t] : tensors_) {
            const size_t n = t.values.size() * sizeof(float);
            header[name] = {
                {"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {data.size(), data.size() + n}}};
            data.append(reinterpret_cast<const char*>(t.values.data()), n);
        }
        write_file(t_.path() / "config.json", config_.dump());
        write_file(t_.path() / "model.safetensors", safetensors(header.dump(), data));
        return open_model(t_.path());
    }
    Json& config() { return config_; }
    const fs::path& path() const { return t_.path(); }

    std::vector<float> logits() const {
        const auto backend = make_reference_backend();
        const auto model = load_model(open(), *backend);
        return forward_logits(*model, *backend, std::vector<int32_t>{3, 9, 27, 1, 14, 8, 40, 2, 33, 11});
    }

 private:
    struct Values {
        std::vector<int64_t> shape;
        std::vector<float> values;
    };

    void add_all() {
        const Metadata metadata = read_hf_config(config_.dump(), "", "config");
        const Family& family = *family_of(metadata);
        ModelFile file;
        file.metadata = metadata;
        file.container = Container::hugging_face;
        fill_defaults(file);
        const Sizes sizes(family, file.metadata);
        for (const RuleMatch& match : list_tensors(family, file.metadata, false)) {
            std::vector<int64_t> shape = sizes.shape(match.rule->shape);
            if (match.expert >= 0) shape.erase(shape.begin());
            add(hf_name(match), std::move(shape));
        }
    }

    Json config_;
    std::map<std::string, Values> tensors_;
    TemporaryFolder t_;
};

inline Json tiny(const char* model_type, const Json& more = Json::object()) {
    Json config = {{"model_type", model_type},
                   {"hidden_size", 32},
                   {"intermediate_size", 48},
                   {"num_hidden_layers", 2},
                   {"num_attention_heads", 4},
                   {"num_key_value_heads", 2},
                   {"head_dim", 8},
                   {"vocab_size", 48},
                   {"max_position_embeddings", 64},
                   {"rms_norm_eps", 1e-6},
                   {"rope_theta", 10000.0},
                   {"tie_word_embeddings", true}};
    config.update(more);
    return config;
}

}  // namespace smelt
