// Reads golden.safetensors: what the reference implementation (transformers, float32) computed.
#pragma once

#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "files/readers.h"

namespace smelt {

class GoldenFile {
 public:
    explicit GoldenFile(const std::filesystem::path& path)
        : file_(path), entries_(read_safetensors(file_.bytes(), path.string())) {}

    std::vector<int32_t> ints(const std::string& name) const { return values<int32_t>(name, "I32"); }
    std::vector<float> floats(const std::string& name) const { return values<float>(name, "F32"); }

 private:
    template <class T>
    std::vector<T> values(const std::string& name, const std::string& dtype) const {
        for (const SafetensorsEntry& e : entries_) {
            if (e.name != name) continue;
            CHECK(e.dtype == dtype);
            std::vector<T> result(e.data.size() / sizeof(T));
            std::memcpy(result.data(), e.data.data(), e.data.size());
            return result;
        }
        throw Error("golden {} is missing", name);
    }

    MappedFile file_;
    std::vector<SafetensorsEntry> entries_;
};

}  // namespace smelt
