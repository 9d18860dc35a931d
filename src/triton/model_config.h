// A model's configuration as Triton hands it over (the JSON of config.pbtxt), read into what smelt opens a
// model with. Each key acts, is Triton's own business, or is refused by name.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "chat/chat_model.h"

namespace smelt {

struct TritonConfig {
    std::string name = {};
    std::string model_path = {};  // absolute, or from the model's folder; empty: the version's folder
    std::string file_name = {};   // in the version's folder; empty: what is there
    std::vector<Format> quantization =
        {};  // of the matrices: the first that their rows fit; empty: the file's
    bool decoupled = false;
    ChatModelOptions open = {};
    std::vector<std::string> warnings = {};  // what was asked for and is done otherwise
};

// Throws Error naming the key, what was expected and what was found. Devices are those of this machine.
TritonConfig read_triton_config(const Json& config);

// What is served, of a repository's folder MODEL/VERSION. Throws Error.
std::filesystem::path triton_model_path(const TritonConfig& config, const std::filesystem::path& model_folder,
                                        uint64_t version);
// The path, or that of a GGUF file with the number format that the configuration asks for, which is made
// where there is none yet in `cache`.
std::filesystem::path quantized_model(const TritonConfig& config, const std::filesystem::path& model,
                                      const std::filesystem::path& cache);

struct TritonConfigChoice {
    std::string name, model_path;
    int max_batch_size = 32;
    std::string device = "auto", quantization = {};
    int n_ctx = 0;
};
// A config.pbtxt that read_triton_config() takes.
std::string write_triton_config(const TritonConfigChoice& choice);

}  // namespace smelt
