// Writes GGUF bytes by hand, right or wrong, for tests of the reader.
#pragma once

#include "files/files_support.h"
#include "files/gguf/gguf_types.h"

namespace smelt {

struct GgufBytes {
    uint32_t version = 3;
    uint64_t n_keys = 0, n_tensors = 0;
    std::string keys, infos, data;

    static void string(std::string& out, std::string_view text) {
        append(out, static_cast<uint64_t>(text.size()));
        out += text;
    }
    void key(std::string_view name, GgufValue type) {
        ++n_keys;
        string(keys, name);
        append(keys, static_cast<uint32_t>(type));
    }
    void key(std::string_view name, std::string_view text) {
        key(name, GgufValue::string);
        string(keys, text);
    }
    void key(std::string_view name, uint32_t n) {
        key(name, GgufValue::u32);
        append(keys, n);
    }
    void list(std::string_view name, GgufValue type, uint64_t n) {
        key(name, GgufValue::array);
        append(keys, static_cast<uint32_t>(type));
        append(keys, n);
    }
    // Fastest dimension first, as in the file.
    void tensor(std::string_view name, std::vector<uint64_t> dims, uint32_t type, uint64_t offset) {
        ++n_tensors;
        string(infos, name);
        append(infos, static_cast<uint32_t>(dims.size()));
        for (const uint64_t d : dims) append(infos, d);
        append(infos, type);
        append(infos, offset);
    }
    std::string bytes() const {
        std::string out;
        append(out, gguf_magic);
        append(out, version);
        append(out, n_tensors);
        append(out, n_keys);
        out += keys + infos;
        out.resize((out.size() + 31) / 32 * 32);
        return out + data;
    }
};

// Every value type, lists, two tensors of known formats and one of an unsupported one.
inline GgufBytes small_gguf() {
    GgufBytes g;
    g.key("general.architecture", "llama");
    g.key("llama.attention.head_count", 2u);
    g.key("llama.embedding_length", 64u);
    g.key("llama.block_count", 1u);
    g.key("t.u8", GgufValue::u8), append(g.keys, uint8_t{200});
    g.key("t.i8", GgufValue::i8), append(g.keys, int8_t{-3});
    g.key("t.u16", GgufValue::u16), append(g.keys, uint16_t{60000});
    g.key("t.i16", GgufValue::i16), append(g.keys, int16_t{-300});
    g.key("t.i32", GgufValue::i32), append(g.keys, int32_t{-70000});
    g.key("t.u64", GgufValue::u64), append(g.keys, uint64_t{1} << 40);
    g.key("t.i64", GgufValue::i64), append(g.keys, int64_t{-5});
    g.key("t.f32", GgufValue::f32), append(g.keys, 1e-6f);
    g.key("t.f64", GgufValue::f64), append(g.keys, 0.1);
    g.key("t.bool", GgufValue::boolean), append(g.keys, uint8_t{1});
    g.list("t.strings", GgufValue::string, 2), GgufBytes::string(g.keys, "a"),
        GgufBytes::string(g.keys, "bc");
    g.list("t.ints", GgufValue::i32, 2), append(g.keys, int32_t{1}), append(g.keys, int32_t{-2});
    g.list("t.reals", GgufValue::f32, 1), append(g.keys, 0.5f);
    g.list("t.nested", GgufValue::array, 1);
    append(g.keys, static_cast<uint32_t>(GgufValue::u8)), append(g.keys, uint64_t{2}), g.keys += "xy";
    g.tensor("token_embd.weight", {64, 3}, 8, 0);
    g.tensor("output_norm.weight", {64}, 0, 416);
    g.tensor("blk.0.attn_q.weight", {32}, 9, 672);  // Q8_1: for products only, never of weights
    g.data.assign(708, '\1');
    return g;
}

}  // namespace smelt
