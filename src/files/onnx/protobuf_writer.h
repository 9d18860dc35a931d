// Protobuf's wire format, written: fields one after the other, messages as bytes of their own.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace smelt {

class ProtobufWriter {
 public:
    ProtobufWriter& integer(uint32_t field, uint64_t value) {
        put(uint64_t{field} << 3);
        put(value);
        return *this;
    }
    ProtobufWriter& real(uint32_t field, float value) {
        put(uint64_t{field} << 3 | 5);
        char raw[sizeof(value)];
        std::memcpy(raw, &value, sizeof(value));
        bytes_.append(raw, sizeof(raw));
        return *this;
    }
    ProtobufWriter& text(uint32_t field, std::string_view value) {
        put(uint64_t{field} << 3 | 2);
        put(value.size());
        bytes_ += value;
        return *this;
    }
    ProtobufWriter& message(uint32_t field, const ProtobufWriter& value) { return text(field, value.bytes_); }

    const std::string& bytes() const { return bytes_; }

 private:
    void put(uint64_t value) {
        for (; value >= 128; value >>= 7) bytes_ += static_cast<char>(value | 128);
        bytes_ += static_cast<char>(value);
    }

    std::string bytes_;
};

}  // namespace smelt
