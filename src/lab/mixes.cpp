// llama.cpp's mixes, as its quantizer chooses them without an importance matrix.
#include "lab/mixes.h"

#include <algorithm>
#include <charconv>

#include "base/ascii.h"
#include "base/error.h"

namespace smelt {

namespace {

struct Name {
    std::string_view name;
    Format base;            // of most matrices
    std::string_view also;  // other spellings, separated by spaces
};
constexpr Name names[] = {
    {"f32", Format::F32, "fp32 float32"},
    {"f16", Format::F16, "fp16 float16 half"},
    {"bf16", Format::BF16, "bfloat16"},
    {"q8_0", Format::Q8_0, "q8 int8 8bit"},
    {"q6_k", Format::Q6_K, "q6 int6 6bit"},
    {"q5_k_m", Format::Q5_K, "q5_k q5 int5 5bit"},
    {"q5_k_s", Format::Q5_K, ""},
    {"q5_1", Format::Q5_1, ""},
    {"q5_0", Format::Q5_0, ""},
    {"q4_k_m", Format::Q4_K, "q4_k q4 int4 4bit"},
    {"q4_k_s", Format::Q4_K, ""},
    {"q4_1", Format::Q4_1, ""},
    {"q4_0", Format::Q4_0, ""},
    {"gptq", Format::Q4_Z, "gptq_int4 gptq_4bit w4a16"},
    {"awq", Format::Q4_Z, "awq_int4 awq_4bit"},
    {"iq4_nl", Format::IQ4_NL, ""},
    {"iq4_xs", Format::IQ4_XS, ""},
    {"mxfp4", Format::MXFP4, "fp4"},
    {"q3_k_l", Format::Q3_K, ""},
    {"q3_k_m", Format::Q3_K, "q3_k q3 int3 3bit"},
    {"q3_k_s", Format::Q3_K, ""},
    {"q2_k", Format::Q2_K, "q2 int2 2bit"},
};

bool is_mix(std::string_view name) {
    return name.find("_k") != std::string_view::npos || name == "iq4_xs";
}

// "blk.3.ffn_down.weight" -> 3; -1 outside of layers.
int layer_of(std::string_view name) {
    int layer = -1;
    if (name.starts_with("blk.")) std::from_chars(name.data() + 4, name.data() + name.size(), layer);
    return layer;
}

// The ends of the stack and every third layer between get more bits.
bool gets_more_bits(int layer, int n) {
    return layer < n / 8 || layer >= 7 * n / 8 || (layer - n / 8) % 3 == 2;
}

Format in_mix(std::string_view mix, Format base, std::string_view tensor, int n_layers, bool is_head,
              int64_t n_rep) {
    const auto is = [&](std::string_view part) { return tensor.find(part) != std::string_view::npos; };
    const int layer = layer_of(tensor);
    if (is_head) return Format::Q6_K;
    if (tensor == "token_embd.weight") return mix == "q2_k" ? Format::Q2_K : base;
    const bool v = is("attn_v."), down = is("ffn_down"), output = is("attn_output.");
    if (mix == "q5_k_m" && (v || down) && gets_more_bits(layer, n_layers)) return Format::Q6_K;
    if (mix == "q4_k_m" && (v || down) && gets_more_bits(layer, n_layers)) return Format::Q6_K;
    if (mix == "q4_k_s" && ((v && layer < 4) || (down && layer < n_layers / 8))) return Format::Q5_K;
    if (mix == "iq4_xs" && ((v && n_rep >= 4) || (down && layer < n_layers / 8))) return Format::Q5_K;
    if (mix == "q3_k_l" && (v || down || output)) return Format::Q5_K;
    if (mix == "q3_k_m") {
        if (v) return layer < 2 ? Format::Q5_K : Format::Q4_K;
        if (down)
            return layer < n_layers / 16             ? Format::Q5_K
                   : gets_more_bits(layer, n_layers) ? Format::Q4_K
                                                     : base;
        if (output) return Format::Q4_K;
    }
    if (mix == "q2_k") {
        if (v) return n_rep >= 4 ? Format::Q4_K : Format::Q3_K;
        if (down || output) return Format::Q3_K;
    }
    return base;
}

// For rows that are no whole super-blocks.
Format with_short_blocks(Format f) {
    switch (f) {
        case Format::Q2_K:
        case Format::Q3_K:
        case Format::IQ4_XS:
            return Format::IQ4_NL;
        case Format::Q4_K:
            return Format::Q5_0;
        case Format::Q5_K:
            return Format::Q5_1;
        case Format::Q6_K:
            return Format::Q8_0;
        default:
            return f;
    }
}

Format that_fits(const TensorView& t, Format f) {
    const auto fits = [&](Format g) { return t.row_len() % format_info(g).block_len == 0; };
    if (fits(f)) return f;
    if (fits(with_short_blocks(f))) return with_short_blocks(f);
    return t.format == Format::F32 ? Format::F16 : t.format;
}

std::string plain(std::string_view spelling) {
    std::string s;
    for (const char c : spelling) {
        s += c == '-' ? '_' : c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    }
    return s;
}

}  // namespace

std::optional<std::string> format_name_of(std::string_view spelling) {
    const std::string wanted = plain(spelling);
    for (const Name& n : names) {
        if (n.name == wanted) return std::string(n.name);
        for (std::string_view rest = n.also; !rest.empty();) {
            const std::string_view word = rest.substr(0, rest.find(' '));
            if (word == wanted) return std::string(n.name);
            rest.remove_prefix(std::min(rest.size(), word.size() + 1));
        }
    }
    return std::nullopt;
}

std::string quantization_names() {
    std::string list;
    for (const Name& n : names) list += (list.empty() ? "" : ", ") + std::string(n.name);
    return list;
}

bool takes_format(const TensorView& t) {
    return t.shape.size() >= 2 && !t.name.ends_with(".bias") && !t.name.ends_with("ffn_gate_inp.weight") &&
           !t.name.ends_with("ssm_conv1d.weight");
}

FormatMap make_mix(const ModelFile& model, const std::string& name) {
    const auto* known = std::ranges::find(names, name, &Name::name);
    CHECK(known != std::end(names), "{}", name);
    int n_layers = 0;
    for (const TensorView& t : model.tensors) n_layers = std::max(n_layers, layer_of(t.name) + 1);
    const bool tied = model.find("output.weight") == nullptr;
    const std::string* architecture = model.metadata.get_string("general.architecture");
    const std::string prefix = architecture == nullptr ? "" : *architecture + ".";
    const int64_t n_heads = model.metadata.get_int(prefix + "attention.head_count").value_or(1),
                  n_kv_heads = model.metadata.get_int(prefix + "attention.head_count_kv").value_or(n_heads);
    FormatMap formats;
    for (const TensorView& t : model.tensors) {
        if (!takes_format(t)) continue;
        const bool is_head = t.name == "output.weight" || (tied && t.name == "token_embd.weight");
        const Format f = is_mix(name) ? in_mix(name, known->base, t.name, n_layers, is_head,
                                               n_heads / std::max<int64_t>(n_kv_heads, 1))
                                      : known->base;
        formats[t.name] = that_fits(t, f);
    }
    return formats;
}

uint64_t bytes_of(const ModelFile& model, const FormatMap& formats) {
    uint64_t n = 0;
    for (const TensorView& t : model.tensors) {
        const auto found = formats.find(t.name);
        const Format f = found != formats.end() ? found->second : t.shape.size() < 2 ? Format::F32 : t.format;
        n += data_bytes(f, t.n_elements());
    }
    return n;
}

std::string write_recipe(const FormatMap& formats) {
    std::string text =
        "# Number formats of a quantized model: smelt quantize MODEL --recipe THIS -o OUT.gguf\n[tensors]\n";
    for (const auto& [name, format] : formats)
        text += fmt::format("\"{}\" = \"{}\"\n", name, to_string(format));
    return text;
}

FormatMap read_recipe(const ModelFile& model, std::string_view text, std::string_view source) {
    FormatMap formats;
    bool in_tensors = false;
    for (int number = 1; !text.empty(); ++number) {
        const size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = trimmed(text.substr(0, end));
        text.remove_prefix(std::min(text.size(), end + 1));
        if (line.empty() || line.starts_with('#')) continue;
        const auto bad = [&](std::string_view expected) {
            return Error("{}: line {}: expected {}, found {}", source, number, expected, line);
        };
        if (line == "[tensors]") {
            in_tensors = true;
            continue;
        }
        const size_t name_end = line.find('"', 1);
        if (!in_tensors || !line.starts_with('"') || name_end == std::string_view::npos) {
            throw bad("[tensors], or \"tensor\" = \"format\" below it");
        }
        const std::string name(line.substr(1, name_end - 1));
        std::string_view rest = trimmed(line.substr(name_end + 1));
        if (!rest.starts_with('=')) throw bad("\"tensor\" = \"format\"");
        rest = trimmed(rest.substr(1));
        const size_t format_end = rest.find('"', 1);
        if (!rest.starts_with('"') || format_end == std::string_view::npos)
            throw bad("\"tensor\" = \"format\"");
        const auto format = format_from_name(plain(rest.substr(1, format_end - 1)));
        if (!format || !format_info(*format).can_encode || format_info(*format).gguf_id < 0) {
            throw bad("one of the formats " + encodable_names());
        }
        const TensorView* t = model.find(name);
        if (t == nullptr)
            throw Error("{}: line {}: {} has no tensor {}", source, number, model.path.string(), name);
        if (t->row_len() % format_info(*format).block_len != 0) {
            throw Error(
                "{}: line {}: {}: expected rows of whole blocks of {} weights, the model has rows of {}",
                source, number, name, format_info(*format).block_len, t->row_len());
        }
        if (!formats.emplace(name, *format).second) throw bad("each tensor once");
    }
    return formats;
}

}  // namespace smelt
