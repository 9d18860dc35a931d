// Bounds-checked little-endian reader over the bytes of a file. Every parser of binary containers goes
// through it, so that no count from a file is believed before it has been compared with the bytes that are
// left.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

#include "base/error.h"

namespace smelt {

static_assert(std::endian::native == std::endian::little, "model files are read in place");

class ByteReader {
 public:
    // `source` names the file in errors.
    ByteReader(std::span<const std::byte> bytes, std::string source)
        : bytes_(bytes), source_(std::move(source)) {}

    uint64_t position() const { return position_; }
    uint64_t remaining() const { return bytes_.size() - position_; }
    const std::string& source() const { return source_; }

    template <class T>
    T read(std::string_view what) {
        T value;
        std::memcpy(&value, take(sizeof(T), what).data(), sizeof(T));
        return value;
    }

    // The next n bytes, in place.
    std::span<const std::byte> take(uint64_t n, std::string_view what) {
        if (n > remaining()) {
            throw Error("{}: offset {}: {}: expected {} bytes, the file has {} left", source_, position_,
                        what, n, remaining());
        }
        const auto result = bytes_.subspan(position_, n);
        position_ += n;
        return result;
    }

    // A count of items that need at least min_item_bytes each; refused when they cannot be in the rest of the
    // file.
    uint64_t check_count(uint64_t n, uint64_t min_item_bytes, std::string_view what) const {
        if (n > remaining() / min_item_bytes) {
            throw Error("{}: offset {}: {}: {} items cannot fit into the {} bytes left", source_, position_,
                        what, n, remaining());
        }
        return n;
    }

    void seek(uint64_t position, std::string_view what) {
        if (position > bytes_.size()) {
            throw Error("{}: {}: offset {} is behind the end of the file ({} bytes)", source_, what, position,
                        bytes_.size());
        }
        position_ = position;
    }

 private:
    std::span<const std::byte> bytes_;
    std::string source_;
    uint64_t position_ = 0;
};

}  // namespace smelt
