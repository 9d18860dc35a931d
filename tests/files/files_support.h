// Small model files made in a test's own folder, and the damage done to them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "files/model_file.h"

namespace smelt {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
    TemporaryFolder() {
        static int count = 0;
        path_ = fs::temp_directory_path() /
                ("smelt-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++));
        fs::create_directories(path_);
    }
    ~TemporaryFolder() { fs::remove_all(path_); }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;
    const fs::path& path() const { return path_; }

 private:
    fs::path path_;
};

inline void write_file(const fs::path& path, std::string_view bytes) {
    std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_file(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

template <class T>
void append(std::string& bytes, T value) {
    char raw[sizeof(T)];
    std::memcpy(raw, &value, sizeof(T));
    bytes.append(raw, sizeof(T));
}

inline std::string safetensors(std::string_view header, std::string_view data) {
    std::string bytes;
    append(bytes, static_cast<uint64_t>(header.size()));
    return bytes.append(header).append(data);
}

// The text of the Error that opening gives; empty where it succeeds.
inline std::string open_error(const fs::path& path) {
    try {
        (void)open_model(path);
        return {};
    } catch (const Error& e) {
        return e.what();
    }
}

inline fs::path golden(const std::string& name) {
    return fs::path(SMELT_TEST_DATA) / "goldens" / name;
}

// A small file of torch.save in this layout: "zip" or "legacy".
inline std::string torch_bin(const std::string& layout) {
    return read_file(fs::path(SMELT_TEST_DATA) / "torch_bin" / (layout + ".bin"));
}

}  // namespace smelt
