// A folder of the small bundled model that a test may change: its files, its template.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "server/client.h"

namespace smelt {

class ModelCopy {
 public:
    explicit ModelCopy(const std::string& name)
        : folder_(std::filesystem::temp_directory_path() / fmt::format("smelt_{}_{}", name, ::getpid())) {
        std::filesystem::remove_all(folder_);
        std::filesystem::copy(bundled("demo-5m"), folder_);
    }
    ~ModelCopy() { std::filesystem::remove_all(folder_); }
    ModelCopy(const ModelCopy&) = delete;
    ModelCopy& operator=(const ModelCopy&) = delete;

    std::string path() const { return folder_; }
    std::filesystem::path weights() const { return folder_ / "model.safetensors"; }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(folder_ / name) << text;
    }
    std::string read(const std::string& name) const {
        std::ifstream in(folder_ / name);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void set_template(const std::string& source) const {
        Json config = Json::parse(read("tokenizer_config.json"));
        config["chat_template"] = source;
        write("tokenizer_config.json", config.dump());
        std::filesystem::remove(folder_ / "chat_template.jinja");
    }

 private:
    std::filesystem::path folder_;
};

}  // namespace smelt
