// What reader and writer of qwen3.c's .bin share: the header, the order of the tensors, the prompt files.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

inline constexpr uint32_t qwen3c_magic = 0x616A6331;
inline constexpr int32_t qwen3c_version = 1;
inline constexpr uint64_t qwen3c_header_bytes = 256;
// runq.c has these built in; the file does not carry them.
inline constexpr double qwen3c_rope_base = 1e6, qwen3c_rms_eps = 1e-6;

// As in the file, after magic and version.
struct Qwen3cHeader {
    int32_t dim, ffn_dim, n_layers, n_heads, n_kv_heads, vocab_size, n_ctx, head_dim, shared_classifier,
        group;
};
static_assert(sizeof(Qwen3cHeader) == 40);

struct Qwen3cTensor {
    std::string name;  // GGUF's
    std::vector<int64_t> shape;
    bool quantized;
};
std::vector<Qwen3cTensor> qwen3c_tensors(const Qwen3cHeader& h);

// The four prompt files beside a .bin, with %s in place of the texts.
struct Qwen3cPrompts {
    std::string plain;  // user message, thinking off
    std::string thinking;
    std::string system;  // system and user message, thinking off
    std::string system_thinking;
};
inline constexpr std::array<std::string_view, 4> qwen3c_prompt_suffixes = {
    ".template", ".template.with-thinking", ".template.with-system", ".template.with-system-and-thinking"};

// A Jinja template that gives the prompts' text for one turn and repeats their pattern for more.
// Throws Error naming the file where a prompt lacks its %s.
std::string qwen3c_chat_template(const Qwen3cPrompts& prompts, const std::string& source);

}  // namespace smelt
