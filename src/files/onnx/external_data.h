// Where an ONNX file's tensors lie that are in files beside it. Each such file is mapped once.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>

#include "files/model_file.h"
#include "files/onnx/protobuf_reader.h"

namespace smelt {

struct ExternalPlace {
    std::string location;
    uint64_t offset = 0, length = 0;
    bool has_length = false;

    // Adds a pair of key and text.
    void add(ProtobufReader in, const std::string& source);
};

class ExternalData {
 public:
    ExternalData(std::filesystem::path folder, std::string source, ModelFile& model)
        : folder_(std::move(folder)), source_(std::move(source)), model_(model) {}

    struct Found {
        std::span<const std::byte> bytes;
        std::string source;
    };
    // Throws Error where the place is outside of the folder, or not n_bytes long.
    Found bytes_of(const ExternalPlace& place, const std::string& tensor, uint64_t n_bytes);

 private:
    const MappedFile& map(const std::string& location, const std::string& tensor);

    std::filesystem::path folder_;
    std::string source_;
    ModelFile& model_;
    std::map<std::string, std::shared_ptr<const MappedFile>> files_;
};

}  // namespace smelt
