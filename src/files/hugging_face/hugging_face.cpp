// A Hugging Face folder: config.json says what the model is, one or more safetensors files hold the weights,
// or in older folders files of torch.save.
#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <unordered_set>

#include "base/ascii.h"
#include "base/error.h"
#include "base/json.h"
#include "files/families.h"
#include "files/hugging_face/pooling.h"
#include "files/hugging_face/vision_part.h"
#include "files/known_keys.h"
#include "files/limits.h"
#include "files/packed/mxfp4_pairs.h"
#include "files/packed/packed_weights.h"
#include "files/readers.h"
#include "files/transpose.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

std::shared_ptr<const MappedFile> map_if_present(const fs::path& path) {
    std::error_code error;
    return fs::exists(path, error) ? std::make_shared<const MappedFile>(path) : nullptr;
}

std::string_view text_of(const std::shared_ptr<const MappedFile>& file) {
    return file == nullptr ? std::string_view{} : file->text();
}

std::string read_template(const MappedFile& file) {
    if (file.bytes().size() > limits::template_bytes) {
        throw Error("{}: template of {} bytes, at most {} are accepted", file.path().string(),
                    file.bytes().size(), limits::template_bytes);
    }
    return std::string(file.text());
}

void read_chat_templates(const fs::path& folder, ModelFile& model) {
    const std::string key = "tokenizer.chat_template";
    if (const auto file = map_if_present(folder / "chat_template.jinja")) {
        model.metadata.set(key, read_template(*file));
    }
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder / "additional_chat_templates", error)) {
        if (entry.path().extension() != ".jinja") continue;
        const std::string name = check_name(entry.path().stem().string(), "template name", folder.string());
        model.metadata.set(key + "." + name, read_template(MappedFile(entry.path())));
    }
    if (model.tokenizer_config != nullptr) {
        read_hf_chat_template(model.tokenizer_config->text(), model.tokenizer_config->path().string(),
                              model.metadata);
    }
}

std::optional<RuleMatch> find_rule(const Family* family, const std::string& hf_name) {
    return family == nullptr ? std::nullopt : match_hf(*family, hf_name);
}

// The name that the family's table has for it, else its own.
std::string translate(const Family* family, const std::string& hf_name) {
    const auto match = find_rule(family, hf_name);
    return match ? gguf_name(*match) : hf_name;
}

// Vectors that GGUF has otherwise, as floats: norms with their one, the decay as it is used.
std::vector<float> as_used(const SafetensorsEntry& entry, Format format, TensorRole role) {
    size_t n = 1;
    for (const int64_t d : entry.shape) n *= static_cast<size_t>(d);
    std::vector<float> values(n);
    decode_row({format, entry.data.data(), nullptr, static_cast<int64_t>(n)}, values);
    for (float& v : values) v = role == TensorRole::one_plus ? 1 + v : -std::exp(v);
    return values;
}

// Of models with pictures: whose names these are, and those of text as they are without.
constexpr std::string_view picture_prefixes[] = {"vision_tower.",
                                                 "vision_model.",
                                                 "visual.",
                                                 "multi_modal_projector.",
                                                 "model.vision_tower.",
                                                 "model.visual.",
                                                 "model.multi_modal_projector."};
constexpr std::string_view text_prefixes[][2] = {{"model.language_model.", "model."},
                                                 {"language_model.model.", "model."},
                                                 {"language_model.lm_head.", "lm_head."}};

// Whether a tensor is for pictures or for predicting further tokens, which text does without.
bool is_left_out(std::string& name, const Family* family) {
    if (family == nullptr) return false;
    if (family->prediction_layers && name.starts_with("mtp.")) return true;
    if (family->wrapper_type.empty()) return false;
    for (const std::string_view prefix : picture_prefixes) {
        if (name.starts_with(prefix)) return true;
    }
    for (const auto& [prefix, without] : text_prefixes) {
        if (name.starts_with(prefix)) {
            name.replace(0, prefix.size(), without);
            break;
        }
    }
    return false;
}

void add_tensor(SafetensorsEntry& entry, const Family* family, bool tied_head, const std::string& source,
                std::unordered_set<std::string>& names, ModelFile& model) {
    const auto match = find_rule(family, entry.name);
    if (match && match->rule->gguf.empty()) return;
    const std::string name = translate(family, entry.name);
    if (!names.insert(name).second) throw Error("{}: two tensors with the name {}", source, name);
    // The reference ignores a head that the config ties to the embedding.
    if (tied_head && name == "output.weight") return;

    const auto format = format_from_name(ascii_lower(entry.dtype));
    if (!format || format_info(*format).block_len != 1) {
        model.unsupported.push_back({name, entry.dtype, std::move(entry.shape), entry.data.size(), source});
        return;
    }
    const auto element = static_cast<size_t>(format_info(*format).block_bytes);
    const TensorRole role = match ? match->rule->role : TensorRole::plain;
    if (role == TensorRole::one_plus || role == TensorRole::decay) {
        const std::vector<float> values = as_used(entry, *format, role);
        const auto bytes = std::as_bytes(std::span(values));
        model.owned.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
        model.tensors.push_back({name, Format::F32, std::move(entry.shape), *model.owned.back(), {}, source});
        return;
    }
    if (role == TensorRole::row && entry.shape.size() == 2 && entry.shape[0] == 1)
        entry.shape.erase(entry.shape.begin());
    if (role == TensorRole::channels && entry.shape.size() == 3 && entry.shape[1] == 1)
        entry.shape.erase(entry.shape.begin() + 1);
    if (match && match->rule->role == TensorRole::conv1d && entry.shape.size() == 2) {
        model.owned.push_back(std::make_shared<const std::vector<std::byte>>(
            transposed(entry.data, entry.shape[0], entry.shape[1], element)));
        model.tensors.push_back(
            {name, *format, {entry.shape[1], entry.shape[0]}, *model.owned.back(), {}, source});
        return;
    }
    model.tensors.push_back(
        {name, *format, std::move(entry.shape), aligned(entry.data, element, model), {}, source});
}

// One of the ways in which folders hold weights: a single file, or an index of shards beside it.
struct WeightFormat {
    std::string_view name, single, ending;
    std::vector<SafetensorsEntry> (*read)(std::span<const std::byte> bytes, const std::string& source);
};
// Where a folder has both, the first is taken.
constexpr std::array weight_formats = {
    WeightFormat{"safetensors", "model.safetensors", ".safetensors", read_safetensors},
    WeightFormat{"pytorch_model.bin", "pytorch_model.bin", ".bin", read_torch_bin},
};

struct WeightFiles {
    const WeightFormat* format;
    std::set<std::string> shards = {};
    std::vector<ShardEntry> index = {};
    std::string index_path = {};
};

WeightFiles find_weights(const fs::path& folder) {
    for (const WeightFormat& format : weight_formats) {
        WeightFiles files = {.format = &format};
        std::error_code error;
        if (fs::exists(folder / format.single, error)) {
            files.shards.emplace(format.single);
            return files;
        }
        const auto index = map_if_present(folder / fmt::format("{}.index.json", format.single));
        if (index == nullptr) continue;
        files.index_path = index->path().string();
        files.index = read_shard_index(index->text(), files.index_path, format.ending);
        for (const ShardEntry& entry : files.index) files.shards.insert(entry.file);
        if (files.shards.size() > limits::shards) {
            throw Error("{}: {} shards, at most {} are accepted", folder.string(), files.shards.size(),
                        limits::shards);
        }
        return files;
    }
    throw Error(
        "{}: expected model.safetensors or pytorch_model.bin, or the index of either's shards, found neither",
        folder.string());
}

// All experts of a layer in one tensor, as transformers 5 keeps them: (n_experts, 2 * rows, columns) of gate
// and up, the gate's rows first, and (n_experts, rows, columns) of down. The same bytes as a tensor each;
// none: it is no such tensor.
std::vector<SafetensorsEntry> experts_of(const SafetensorsEntry& entry, const Family* family) {
    constexpr std::string_view gate_up = ".experts.gate_up_proj", down = ".experts.down_proj";
    const bool both = entry.name.ends_with(gate_up);
    if (family == nullptr || (!both && !entry.name.ends_with(down)) || entry.shape.size() != 3) return {};
    const std::string base = entry.name.substr(0, entry.name.rfind('.') + 1);
    if (!match_hf(*family, base + "0.down_proj.weight")) return {};
    const int64_t n_experts = entry.shape[0], n_parts = both ? 2 : 1, n = n_experts * n_parts;
    if (n < 1 || n > limits::layers * 2 || entry.shape[1] % n_parts != 0) return {};
    const size_t bytes = entry.data.size() / static_cast<size_t>(n);
    std::vector<SafetensorsEntry> parts;
    for (int64_t i = 0; i < n; ++i) {
        const char* which = !both ? "down" : i % 2 == 0 ? "gate" : "up";
        parts.push_back({fmt::format("{}{}.{}_proj.weight", base, i / n_parts, which),
                         entry.dtype,
                         {entry.shape[1] / n_parts, entry.shape[2]},
                         entry.data.subspan(bytes * static_cast<size_t>(i), bytes)});
    }
    return parts;
}

// GGUF has them as tensors.
void add_rope_factors(ModelFile& model) {
    for (const char* which : {"short", "long"}) {
        const auto* list = model.metadata.get_doubles(fmt::format("smelt.rope.{}_factor", which));
        if (list == nullptr) continue;
        const std::vector<float> values(list->begin(), list->end());
        const auto bytes = std::as_bytes(std::span(values));
        model.owned.push_back(std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end()));
        model.tensors.push_back({fmt::format("rope_factors_{}.weight", which),
                                 Format::F32,
                                 {static_cast<int64_t>(values.size())},
                                 *model.owned.back(),
                                 {},
                                 model.path.string()});
    }
}

void read_weights(const fs::path& folder, const Family* family, PackedWeights packed, ModelFile& model) {
    const bool tied_head = model.metadata.get_bool("smelt.tie_word_embeddings").value_or(false);
    const auto [format, shards, index, index_path] = find_weights(folder);
    std::unordered_set<std::string> seen, names, vision_names;  // as in the files, and translated
    Mxfp4Pairs pairs;
    size_t n_left_out = 0;
    for (const std::string& shard : shards) {
        const auto file = std::make_shared<const MappedFile>(folder / shard);
        model.mappings.push_back(file);
        const std::string source = file->path().string();
        for (SafetensorsEntry& entry : format->read(file->bytes(), source)) {
            if (!seen.insert(entry.name).second)
                throw Error("{}: tensor {} is in two shards", source, entry.name);
            if (model.vision != nullptr && take_vision_name(entry)) {
                entry.name = vision_name(*family->tower, *model.vision, entry.name);
                add_tensor(entry, nullptr, false, source, vision_names, *model.vision);
                continue;
            }
            if (is_left_out(entry.name, family)) {
                ++n_left_out;
                continue;
            }
            if (auto experts = experts_of(entry, family); !experts.empty()) {
                for (SafetensorsEntry& e : experts) add_tensor(e, family, tied_head, source, names, model);
                continue;
            }
            if (pairs.take(entry, source) || packed.take(entry, source)) continue;
            add_tensor(entry, family, tied_head, source, names, model);
        }
    }
    const auto add_joined = [&](TensorView view, const std::string& hf_name) {
        view.name = translate(family, hf_name);
        if (!names.insert(view.name).second) {
            throw Error("{}: two tensors with the name {}", view.source, view.name);
        }
        model.tensors.push_back(std::move(view));
    };
    // Tables name the pair by its blocks.
    for (const Mxfp4Pairs::Pair& pair : pairs.join()) add_joined(joined_view(pair), pair.blocks.entry.name);
    for (const TensorView& view : packed.join(model)) add_joined(view, view.name);
    for (Mxfp4Pairs::Part part : pairs.rest()) {
        add_tensor(part.entry, family, tied_head, part.source, names, model);
    }
    for (const auto& [name, shard] : index) {
        if (!seen.contains(name)) {
            throw Error("{}: tensor {}: expected in {}, which lacks it", index_path, name, shard);
        }
    }
    if (n_left_out > 0) {
        model.notes.push_back(fmt::format(
            "{} tensors for pictures or for predicting further tokens (MTP) are not used", n_left_out));
    }
    add_rope_factors(model);
    const size_t n = shards.size();
    model.container_version = fmt::format("{}{}", format->name, n == 1 ? "" : fmt::format(", {} shards", n));
}

}  // namespace

void read_hf_texts(const fs::path& folder, ModelFile& model) {
    model.tokenizer = map_if_present(folder / "tokenizer.json");
    model.tokenizer_config = map_if_present(folder / "tokenizer_config.json");
    read_chat_templates(folder, model);
}

ModelFile read_hugging_face(const fs::path& folder, Weights weights) {
    ModelFile model;
    model.path = folder;
    model.container = Container::hugging_face;
    const auto config = map_if_present(folder / "config.json");
    if (config == nullptr) throw Error("{}: expected a folder with config.json", folder.string());
    const auto generation = map_if_present(folder / "generation_config.json");
    model.metadata = read_hf_config(config->text(), text_of(generation), folder.string());
    read_hf_texts(folder, model);
    read_pooling(folder, model);

    const Family* family = family_of(model.metadata);
    if (family != nullptr) {
        const std::string source = config->path().string();
        const Json whole = parse_json(config->text(), source);
        refuse_unknown_config(text_config_of(whole), *family, source, model);
        model.vision = read_vision_config(whole, text_of(map_if_present(folder / "preprocessor_config.json")),
                                          *family, folder.string());
        const auto* deep = model.vision == nullptr
                               ? nullptr
                               : model.vision->metadata.get_ints("clip.vision.deepstack_layers");
        if (deep != nullptr) {
            model.metadata.set(fmt::format("{}.n_deepstack_layers", family->architecture),
                               static_cast<int64_t>(deep->size()));
        }
    }
    const QuantScheme scheme =
        read_quant_scheme(config->text(), text_of(map_if_present(folder / "quantize_config.json")),
                          text_of(map_if_present(folder / "hf_quant_config.json")), folder.string());
    read_weights(folder, family, PackedWeights(scheme, weights), model);
    // A copy for text may have left the tower out.
    if (model.vision != nullptr && model.vision->tensors.empty() && model.vision->unsupported.empty())
        model.vision = nullptr;
    // Explicitly untied, so that using the embedding instead would be a silent mistake.
    if (family != nullptr && !model.metadata.get_bool("smelt.tie_word_embeddings").value_or(true)) {
        const bool has_head = model.find("output.weight") != nullptr ||
                              std::ranges::find(model.unsupported, "output.weight",
                                                &UnsupportedTensor::name) != model.unsupported.end();
        if (!has_head) {
            throw Error(
                "{}: tensor lm_head.weight is missing, but config.json says tie_word_embeddings = false",
                folder.string());
        }
    }
    fill_defaults(model);
    return model;
}

}  // namespace smelt
