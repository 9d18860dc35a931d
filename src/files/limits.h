// What a model file may ask for at most. No published model comes near; a damaged or hostile file that does
// is refused before anything is allocated for it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace smelt::limits {

inline constexpr uint64_t metadata_entries = 1 << 16;
inline constexpr uint64_t key_bytes = 65535;                  // GGUF's own limit
inline constexpr uint64_t string_bytes = uint64_t{16} << 20;  // one string; templates are the longest
inline constexpr uint64_t array_items = uint64_t{16} << 20;   // largest vocabularies have 300 thousand
inline constexpr int array_depth = 4;                         // arrays of arrays
inline constexpr uint64_t tensors = 1 << 20;
inline constexpr uint64_t tensor_name_bytes = 1024;
inline constexpr uint64_t dims = 8;
inline constexpr uint64_t elements = uint64_t{1} << 48;  // of one tensor
inline constexpr uint64_t alignment = 1 << 20;
inline constexpr uint64_t shards = 4096;
inline constexpr size_t safetensors_header_bytes = size_t{100} << 20;  // the format's own limit
inline constexpr uint64_t pickle_opcodes = 1 << 22;                    // 40 a tensor
inline constexpr uint64_t pickle_memo = 1 << 22;
inline constexpr uint64_t storage_sharing =
    4;  // encoder, decoder, their input and the output may share a matrix
inline constexpr size_t shard_index_bytes = size_t{64} << 20;
inline constexpr size_t config_bytes = size_t{1} << 20;  // config.json and its small neighbours
inline constexpr size_t tokenizer_config_bytes = size_t{4} << 20;
inline constexpr size_t template_bytes = size_t{4} << 20;
inline constexpr int64_t layers = 1000, experts = 4096;
inline constexpr int64_t size = int64_t{1} << 30;  // a number that shapes are made of

}  // namespace smelt::limits
