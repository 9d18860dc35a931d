// Who shares cached prefixes: requests of the same API key and the same salt. The hash is keyed, so that
// nobody can make two of them meet.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string_view>

namespace smelt {

class CacheSalts {
 public:
    CacheSalts();  // with a key of this process
    // With the key in the file, which is made where there is none: for prefixes that are kept on disk. Throws
    // Error.
    explicit CacheSalts(const std::filesystem::path& file);

    uint64_t of(std::string_view key, std::string_view salt) const;  // 0: shared by all

 private:
    std::array<uint64_t, 2> secret_;
};

}  // namespace smelt
