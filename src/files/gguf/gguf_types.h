// GGUF's numbers: value types of the metadata, and every tensor type that has an id, decodable here or not.
#pragma once

#include <cstdint>
#include <string_view>

namespace smelt {

inline constexpr uint32_t gguf_magic = 0x46554747;  // "GGUF"
inline constexpr uint32_t gguf_default_alignment = 32;

enum class GgufValue : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

struct GgufType {
    uint32_t id;
    std::string_view name;
    uint64_t block_len;  // weights; 0 for types that files no longer use
    uint64_t block_bytes;
};

// Null for an id that no published version of the format has.
const GgufType* gguf_type(uint32_t id);

}  // namespace smelt
