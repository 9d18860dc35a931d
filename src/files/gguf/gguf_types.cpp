// The table of tensor types, ids as in ggml.h.
#include "files/gguf/gguf_types.h"

#include <algorithm>
#include <array>

#include "quant/format_list.h"

namespace smelt {

namespace {

constexpr auto no_gguf_type = static_cast<uint32_t>(-1);  // the id of formats that GGUF does not know

// Types that smelt can decode: sizes are those of their blocks.
constexpr auto decodable = std::to_array<GgufType>({
#define X(format, id, ...) \
    {static_cast<uint32_t>(id), #format, Block##format::block_len, sizeof(Block##format)},
    QUANT_FORMATS(X)
#undef X
});
// The rest.
constexpr std::array others = {
    GgufType{4, "Q4_2", 0, 0},        GgufType{5, "Q4_3", 0, 0},        GgufType{9, "Q8_1", 32, 36},
    GgufType{16, "IQ2_XXS", 256, 66}, GgufType{17, "IQ2_XS", 256, 74},  GgufType{18, "IQ3_XXS", 256, 98},
    GgufType{19, "IQ1_S", 256, 50},   GgufType{21, "IQ3_S", 256, 110},  GgufType{22, "IQ2_S", 256, 82},
    GgufType{24, "I8", 1, 1},         GgufType{25, "I16", 1, 2},        GgufType{26, "I32", 1, 4},
    GgufType{27, "I64", 1, 8},        GgufType{28, "F64", 1, 8},        GgufType{29, "IQ1_M", 256, 56},
    GgufType{31, "Q4_0_4_4", 0, 0},   GgufType{32, "Q4_0_4_8", 0, 0},   GgufType{33, "Q4_0_8_8", 0, 0},
    GgufType{34, "TQ1_0", 256, 54},   GgufType{35, "TQ2_0", 256, 66},   GgufType{36, "IQ4_NL_4_4", 0, 0},
    GgufType{37, "IQ4_NL_4_8", 0, 0}, GgufType{38, "IQ4_NL_8_8", 0, 0},
};

}  // namespace

const GgufType* gguf_type(uint32_t id) {
    if (id == no_gguf_type) return nullptr;
    if (const auto it = std::ranges::find(decodable, id, &GgufType::id); it != decodable.end()) return &*it;
    const auto it = std::ranges::find(others, id, &GgufType::id);
    return it == others.end() ? nullptr : &*it;
}

}  // namespace smelt
