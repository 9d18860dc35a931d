// Puts together what the graph and the files beside it say. The graph counts: config.json must agree with it
// where they say the same thing.
#include "files/onnx/onnx.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/json.h"
#include "files/families.h"
#include "files/known_keys.h"
#include "files/limits.h"
#include "files/onnx/onnx_graph.h"
#include "files/onnx/onnx_rope.h"
#include "files/onnx/onnx_walk.h"
#include "files/onnx/onnx_weights.h"
#include "files/readers.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

// Those whose layers the walk knows.
constexpr std::array<std::string_view, 4> walked_types = {"llama", "mistral", "qwen2", "qwen3"};

Json object_of(std::string_view text, const std::string& source) {
    Json json = parse_json(text, source, {.max_bytes = limits::config_bytes});
    if (!json.is_object()) throw Error("{}: expected a JSON object", source);
    return json;
}

// A member of nested objects; null where there is none.
Json member(const Json& json, std::initializer_list<const char*> path) {
    const Json* at = &json;
    for (const char* key : path) {
        if (!at->is_object()) return nullptr;
        const auto it = at->find(key);
        if (it == at->end()) return nullptr;
        at = &*it;
    }
    return *at;
}

// What config.json would say: genai_config.json has the sizes, the graph has the rest.
Json config_of(const Json& genai, const OnnxDecoder& d, const std::string& source) {
    const Json type = member(genai, {"model", "type"});
    if (!type.is_string()) throw Error("{}: model.type: expected a model's type", source);
    const double base = fitting_rope_base(d);
    const auto eps = parse_json(fmt::format("{}", static_cast<float>(d.eps)), "epsilon");
    Json config = {{"model_type", type},
                   {"hidden_size", d.dim},
                   {"num_hidden_layers", d.n_layers},
                   {"intermediate_size", d.ffn_dim},
                   {"num_attention_heads", d.n_heads},
                   {"num_key_value_heads", d.n_kv_heads},
                   {"head_dim", d.head_dim},
                   {"vocab_size", d.vocab_size},
                   {"rms_norm_eps", eps},
                   // Scaled frequencies become divisors of those of any base.
                   {"rope_theta", base > 0 ? base : 10000.0}};
    if (const Json length = member(genai, {"model", "context_length"}); !length.is_null())
        config["max_position_embeddings"] = length;
    return config;
}

// What generation_config.json would say.
Json generation_of(const Json& genai) {
    Json generation = Json::object();
    for (const char* key : {"eos_token_id", "bos_token_id"}) {
        if (Json value = member(genai, {"model", key}); !value.is_null()) generation[key] = std::move(value);
    }
    for (const char* key : {"do_sample", "temperature", "top_p", "top_k", "repetition_penalty"}) {
        if (Json value = member(genai, {"search", key}); !value.is_null()) generation[key] = std::move(value);
    }
    return generation;
}

void check_genai(const Json& genai, const OnnxDecoder& d, const std::string& source) {
    const auto check = [&](const Json& value, std::string_view key, int64_t expected) {
        if (value.is_null() || (value.is_number_integer() && value == expected)) return;
        throw Error("{}: {}: expected {} as in the graph, found {}", source, key, expected, to_string(value));
    };
    check(member(genai, {"model", "vocab_size"}), "vocab_size", d.vocab_size);
    const Json decoder = member(genai, {"model", "decoder"});
    check(member(decoder, {"hidden_size"}), "hidden_size", d.dim);
    check(member(decoder, {"head_size"}), "head_size", d.head_dim);
    check(member(decoder, {"num_hidden_layers"}), "num_hidden_layers", d.n_layers);
    check(member(decoder, {"num_attention_heads"}), "num_attention_heads", d.n_heads);
    check(member(decoder, {"num_key_value_heads"}), "num_key_value_heads", d.n_kv_heads);
}

// The config's sizes are the graph's; those that it leaves out are set.
void check_sizes(const OnnxDecoder& d, const Family& family, ModelFile& model) {
    const std::string prefix = std::string(family.architecture) + ".";
    const auto check = [&](const char* key, int64_t expected) {
        const auto found = model.metadata.get_int(prefix + key);
        if (found && *found != expected) {
            const auto rule = std::ranges::find(family.config, std::string_view(key), &ConfigKey::gguf);
            throw Error("{}: {}: expected {} as in the graph, found {}", model.path.string(),
                        rule == family.config.end() ? std::string_view(key) : rule->hf, expected, *found);
        }
        model.metadata.set(prefix + key, expected);
    };
    check("embedding_length", d.dim);
    check("block_count", d.n_layers);
    check("feed_forward_length", d.ffn_dim);
    check("attention.head_count", d.n_heads);
    check("attention.head_count_kv", d.n_kv_heads);
    check("attention.key_length", d.head_dim);
    check("attention.value_length", d.head_dim);
    check("vocab_size", d.vocab_size);
    const std::string eps_key = prefix + "attention.layer_norm_rms_epsilon";
    const double eps = model.metadata.get_double(eps_key).value_or(d.eps);
    if (!(std::fabs(eps - d.eps) <= 1e-5 * std::fabs(d.eps))) {
        throw Error("{}: rms_norm_eps: expected {} as in the graph, found {}", model.path.string(), d.eps,
                    eps);
    }
}

// Exporters have left windows out of the graph that the config has.
void check_window(const OnnxDecoder& d, const Family& family, ModelFile& model) {
    const std::string key = std::string(family.architecture) + ".attention.sliding_window";
    const int64_t said = model.metadata.get_int(key).value_or(0);
    if (said == d.window) return;
    if (d.window != 0) {
        throw Error("{}: sliding_window: expected {} as in the graph, found {}", model.path.string(),
                    d.window, said);
    }
    model.metadata.erase_prefix(key);
    model.notes.push_back(fmt::format(
        "the config has a sliding window of {} positions and the graph none: every token sees all before it",
        said));
}

std::shared_ptr<const MappedFile> map_onnx_neighbour(const fs::path& folder, const char* name) {
    std::error_code error;
    return fs::is_regular_file(folder / name, error) ? std::make_shared<const MappedFile>(folder / name)
                                                     : nullptr;
}

std::string_view neighbour_text(const std::shared_ptr<const MappedFile>& file) {
    return file == nullptr ? std::string_view{} : file->text();
}

// The graph of a folder; empty: it has none.
fs::path find_onnx(const fs::path& folder) {
    std::error_code error;
    if (const auto genai = map_onnx_neighbour(folder, "genai_config.json")) {
        const std::string source = genai->path().string();
        const Json name = member(object_of(genai->text(), source), {"model", "decoder", "filename"});
        if (name.is_string()) {
            const fs::path file(name.get<std::string>());
            if (file.has_parent_path() || file.is_absolute())
                throw Error("{}: filename: expected a file beside it, found {}", source, to_string(name));
            return folder / file;
        }
    }
    for (const char* name : {"model.onnx", "onnx/model.onnx"}) {
        if (fs::is_regular_file(folder / name, error)) return folder / name;
    }
    return {};
}

}  // namespace

void read_onnx(std::span<const std::byte> bytes, const std::string& source, const OnnxTexts& texts,
               const fs::path& folder, Weights weights, ModelFile& model) {
    const OnnxGraph graph = read_onnx_graph(bytes, source, folder, model);
    const OnnxDecoder decoder = walk_onnx(graph);
    const std::string beside = folder.string();
    Json genai;
    if (!texts.genai_config.empty()) {
        genai = object_of(texts.genai_config, beside + "/genai_config.json");
        check_genai(genai, decoder, beside + "/genai_config.json");
    }
    if (texts.config.empty() && genai.is_null())
        throw Error("{}: expected config.json or genai_config.json beside it, found neither", source);
    const std::string config = !texts.config.empty()
                                   ? std::string(texts.config)
                                   : config_of(genai, decoder, beside + "/genai_config.json").dump();
    const std::string generation = !texts.generation_config.empty() ? std::string(texts.generation_config)
                                   : genai.is_null()                ? std::string()
                                                                    : generation_of(genai).dump();
    model.metadata = read_hf_config(config, generation, beside);
    model.container = Container::onnx;
    model.container_version = fmt::format("ONNX{}{}", graph.producer.empty() ? "" : ", ", graph.producer);
    const Family* family = family_of(model.metadata);
    if (family == nullptr || std::ranges::find(walked_types, family->model_type) == walked_types.end()) {
        const std::string* type = model.metadata.get_string("general.architecture");
        throw Error("{}: expected a model of llama, mistral, qwen2 or qwen3, found {}", source,
                    family != nullptr ? std::string(family->model_type)
                    : type != nullptr ? *type
                                      : "none");
    }
    if (!texts.config.empty())
        refuse_unknown_config(object_of(config, beside + "/config.json"), *family, beside + "/config.json",
                              model);
    check_sizes(decoder, *family, model);
    check_window(decoder, *family, model);
    model.metadata.set("smelt.tie_word_embeddings", decoder.tied);
    fill_defaults(model);
    apply_onnx_rope(decoder, model);
    add_onnx_weights(decoder, weights, model);
}

ModelFile open_onnx(const fs::path& path, Weights weights) {
    ModelFile model;
    model.path = path;
    const fs::path file_path = fs::is_directory(path) ? find_onnx(path) : path;
    const auto file = std::make_shared<const MappedFile>(file_path);
    model.mappings.push_back(file);
    // Hubs have graphs in a folder "onnx" below config.json.
    const fs::path own = file_path.has_parent_path() ? file_path.parent_path() : fs::path(".");
    std::error_code error;
    const bool below = !fs::exists(own / "config.json", error) &&
                       !fs::exists(own / "genai_config.json", error) &&
                       fs::exists(own / ".." / "config.json", error);
    const fs::path texts = below ? own / ".." : own;
    const auto config = map_onnx_neighbour(texts, "config.json"),
               genai = map_onnx_neighbour(texts, "genai_config.json"),
               generation = map_onnx_neighbour(texts, "generation_config.json");
    read_onnx(file->bytes(), file_path.string(),
              {neighbour_text(config), neighbour_text(genai), neighbour_text(generation)}, own, weights,
              model);
    read_hf_texts(texts, model);
    return model;
}

bool is_onnx_folder(const fs::path& folder) {
    std::error_code error;
    for (const char* other : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                              "pytorch_model.bin.index.json"}) {
        if (fs::exists(folder / other, error)) return false;
    }
    return !find_onnx(folder).empty();
}

}  // namespace smelt
