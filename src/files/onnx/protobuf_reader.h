// Protobuf's wire format, field by field over bytes in place, as far as ONNX uses it. Knows no message: what
// a field means is its caller's business. Nested messages are readers of their own, so that nothing here
// grows with depth; bytes stay where they lie, so that weights in a mapped file are never copied.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_reader.h"

namespace smelt {

class ProtobufReader {
 public:
    // `what` names the message in errors: "tensor", "node".
    ProtobufReader(std::span<const std::byte> bytes, const std::string& source, std::string_view what)
        : in_(bytes, source), what_(what) {}

    // On to the next field; false: there is none.
    bool next();
    uint32_t field() const { return field_; }

    // The field's value. Throws Error where the file has another type under its number.
    uint64_t integer() const;
    int64_t signed_integer() const { return static_cast<int64_t>(integer()); }
    float real() const;
    std::span<const std::byte> bytes() const;
    std::string text() const;
    ProtobufReader message(std::string_view what) const { return {bytes(), in_.source(), what}; }

    // Adds those of a repeated field, packed or one by one; at most `most` of them.
    void add_integers(std::vector<int64_t>& values, size_t most) const;
    void add_reals(std::vector<float>& values, size_t most) const;

    [[noreturn]] void fail(const std::string& expected, const std::string& found) const;

 private:
    enum class Wire { integer = 0, eight_bytes = 1, bytes = 2, four_bytes = 5 };
    uint64_t read_integer(ByteReader& in) const;
    void expect(Wire wire) const;

    ByteReader in_;
    std::string_view what_;
    uint32_t field_ = 0;
    Wire wire_ = Wire::integer;
    uint64_t integer_ = 0;
    std::span<const std::byte> bytes_;
};

}  // namespace smelt
