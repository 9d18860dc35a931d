// A whole file mapped read-only into memory. Pages are read on first touch and shared with the page cache.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

namespace smelt {

class MappedFile {
 public:
    // Throws Error when the path is no readable regular file.
    explicit MappedFile(const std::filesystem::path& path);
    ~MappedFile();
    MappedFile(const MappedFile&) = delete;
    MappedFile& operator=(const MappedFile&) = delete;

    std::span<const std::byte> bytes() const { return {data_, size_}; }
    std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
    const std::filesystem::path& path() const { return path_; }

 private:
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace smelt
