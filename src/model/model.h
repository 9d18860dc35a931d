// A loaded architecture: straight-line code over the ops of the seam. Immutable; knows no device and no
// sequence.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/config.h"
#include "model/step.h"
#include "model/vision_tower.h"

namespace smelt {

// Where the matrix of a tensor of the file went: rows [first, first + rows) of it.
struct MatrixPlace {
    const Storage* storage = nullptr;
    int64_t first = 0, rows = 0, cols = 0;
};
using MatrixPlaces = std::map<std::string, std::vector<MatrixPlace>, std::less<>>;  // by GGUF's name

class Model {
 public:
    explicit Model(ModelConfig config) : config_(std::move(config)) {}
    virtual ~Model() = default;

    // Records one step; where s.wants_hidden(), it ends with s.set_hidden(), where s.wants_logits(), with
    // s.set_logits().
    virtual void forward(Step& s) const = 0;

    const ModelConfig& config() const { return config_; }
    const VisionTower* vision() const { return vision_.get(); }  // null: the model is of text alone
    const MatrixPlaces& places() const { return places_; }
    size_t weight_bytes() const { return weight_bytes_; }  // all weights
    size_t step_bytes() const { return step_bytes_; }  // of them, those that every decode step reads in full

 protected:
    ModelConfig config_;

 private:
    friend std::unique_ptr<Model> load_model(std::shared_ptr<const ModelFile> file, Backend& backend);
    std::shared_ptr<const ModelFile> file_;     // weights may alias its mapped bytes
    std::vector<std::vector<std::byte>> made_;  // and these
    std::unique_ptr<VisionTower> vision_;
    std::vector<std::unique_ptr<Storage>> mapped_;  // the files as the backend sees them
    MatrixPlaces places_;
    size_t weight_bytes_ = 0, step_bytes_ = 0;
};

// Architectures that this build knows: "qwen3", ...
std::vector<std::string> list_architectures();

// Loads the weights into the backend. The file is kept alive by the model. Throws Error naming tensor,
// expected and found.
std::unique_ptr<Model> load_model(std::shared_ptr<const ModelFile> file, Backend& backend);

}  // namespace smelt
