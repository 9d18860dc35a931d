// A field is a number with a type of four, and a value: a number of seven bits a byte, four or eight bytes,
// or bytes after their count. Groups, which protobuf gave up before ONNX was made, are refused.
#include "files/onnx/protobuf_reader.h"

namespace smelt {

bool ProtobufReader::next() {
    if (in_.remaining() == 0) return false;
    const uint64_t key = read_integer(in_);
    if (key >> 3 == 0 || key >> 3 >= uint64_t{1} << 29) {
        throw Error("{}: {}: expected a protobuf field, found number {}", in_.source(), what_, key >> 3);
    }
    field_ = static_cast<uint32_t>(key >> 3);
    wire_ = static_cast<Wire>(key & 7);
    switch (wire_) {
        case Wire::integer:
            integer_ = read_integer(in_);
            return true;
        case Wire::eight_bytes:
            bytes_ = in_.take(8, what_);
            return true;
        case Wire::four_bytes:
            bytes_ = in_.take(4, what_);
            return true;
        case Wire::bytes:
            bytes_ = in_.take(read_integer(in_), what_);
            return true;
    }
    fail("a protobuf field of a known type", fmt::format("type {}", key & 7));
}

uint64_t ProtobufReader::read_integer(ByteReader& in) const {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const auto byte = in.read<uint8_t>(what_);
        value |= uint64_t{byte & 127u} << shift;
        if (byte < 128) return value;
    }
    throw Error("{}: {}: expected a number of at most ten bytes", in_.source(), what_);
}

void ProtobufReader::expect(Wire wire) const {
    if (wire_ == wire) return;
    fail(fmt::format("type {}", static_cast<int>(wire)), fmt::format("type {}", static_cast<int>(wire_)));
}

void ProtobufReader::fail(const std::string& expected, const std::string& found) const {
    throw Error("{}: {}: field {}: expected {}, found {}", in_.source(), what_, field_, expected, found);
}

uint64_t ProtobufReader::integer() const {
    expect(Wire::integer);
    return integer_;
}

float ProtobufReader::real() const {
    expect(Wire::four_bytes);
    float value = 0;
    std::memcpy(&value, bytes_.data(), sizeof(value));
    return value;
}

std::span<const std::byte> ProtobufReader::bytes() const {
    expect(Wire::bytes);
    return bytes_;
}

std::string ProtobufReader::text() const {
    const auto raw = bytes();
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
}

void ProtobufReader::add_integers(std::vector<int64_t>& values, size_t most) const {
    if (wire_ == Wire::integer) {
        values.push_back(signed_integer());
    } else {
        ByteReader in(bytes(), in_.source());
        while (in.remaining() > 0 && values.size() <= most) {
            values.push_back(static_cast<int64_t>(read_integer(in)));
        }
    }
    if (values.size() > most) fail(fmt::format("at most {} numbers", most), "more");
}

void ProtobufReader::add_reals(std::vector<float>& values, size_t most) const {
    if (wire_ == Wire::four_bytes) {
        values.push_back(real());
    } else {
        ByteReader in(bytes(), in_.source());
        while (in.remaining() > 0 && values.size() <= most) values.push_back(in.read<float>(what_));
    }
    if (values.size() > most) fail(fmt::format("at most {} numbers", most), "more");
}

}  // namespace smelt
