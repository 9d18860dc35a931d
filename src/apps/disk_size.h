// What a model takes on disk.
#pragma once

#include <cstdint>
#include <filesystem>

namespace smelt {

// Of a file, or of all files of a folder.
inline uint64_t size_on_disk(const std::filesystem::path& path) {
    if (!std::filesystem::is_directory(path)) return std::filesystem::file_size(path);
    uint64_t n = 0;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(path)) {
        if (entry.is_regular_file()) n += entry.file_size();
    }
    return n;
}

}  // namespace smelt
