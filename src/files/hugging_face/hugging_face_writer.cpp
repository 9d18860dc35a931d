// A Hugging Face folder: made complete under a temporary name beside the target, then renamed.
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "base/ascii.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "files/conversion.h"
#include "files/families.h"
#include "files/hugging_face/hf_config_writer.h"
#include "files/hugging_face/pooling.h"
#include "files/packed/packed_writer.h"
#include "files/writers.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

void write_whole(const fs::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

std::string indented(const Json& json) {
    return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

// Removes what was made of it unless it got its final name.
class TemporaryFolder {
 public:
    explicit TemporaryFolder(const fs::path& target) : target_(target) {
        std::error_code error;
        if (fs::exists(target_, error) && !fs::is_empty(target_, error)) {
            throw Error("{}: exists already; name a new folder", target_.string());
        }
        if (!target_.has_filename()) target_ = target_.parent_path();  // "out/"
        remove_abandoned_partials(target_);
        path_ = partial_path(target_);
        fs::remove_all(path_, error);
        fs::create_directories(path_, error);
        if (error) throw Error("{}: cannot create: {}", path_.string(), error.message());
    }
    ~TemporaryFolder() {
        std::error_code error;
        fs::remove_all(path_, error);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const fs::path& path() const { return path_; }
    void commit() {
        std::error_code error;
        fs::rename(path_, target_, error);
        if (error) throw Error("{}: cannot finish: {}", target_.string(), error.message());
    }

 private:
    fs::path target_, path_;
};

using OutputShard = std::vector<const OutputTensor*>;

// Widest elements first, so that every tensor is aligned to its own.
std::vector<OutputShard> make_shards(const std::vector<OutputTensor>& plan, uint64_t max_bytes) {
    std::vector<OutputShard> shards(1);
    uint64_t size = 0;
    for (const OutputTensor& t : plan) {
        if (!shards.back().empty() && size + t.n_bytes() > max_bytes) {
            shards.emplace_back();
            size = 0;
        }
        shards.back().push_back(&t);
        size += t.n_bytes();
    }
    for (OutputShard& shard : shards) {
        std::ranges::stable_sort(shard, std::ranges::greater{},
                                 [](const OutputTensor* t) { return format_info(t->format).block_bytes; });
    }
    return shards;
}

std::string shard_name(size_t i, size_t n) {
    return n == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, n);
}

std::string shard_header(const OutputShard& shard) {
    Json::object_t members;  // filled without look-ups: a model may have thousands of tensors
    members.emplace_back("__metadata__", Json{{"format", "pt"}});
    uint64_t offset = 0;
    for (const OutputTensor* t : shard) {
        std::vector<int64_t> shape = t->shape;
        if (t->by_columns) std::ranges::reverse(shape);
        std::string dtype = t->dtype.empty() ? ascii_upper(to_string(t->format)) : t->dtype;
        if (t->plane != Plane::whole) {
            const FormatInfo& info = format_info(t->format);
            shape.back() /= info.block_len;
            if (t->plane == Plane::quants) shape.push_back(info.block_bytes);
            dtype = "U8";
        }
        members.emplace_back(
            t->name,
            Json{{"dtype", dtype}, {"shape", shape}, {"data_offsets", {offset, offset + t->n_bytes()}}});
        offset += t->n_bytes();
    }
    std::string text = to_string(Json(std::move(members)));
    text.append((8 - text.size() % 8) % 8, ' ');
    return text;
}

void write_shard(const fs::path& path, const OutputShard& shard, ThreadPool& pool, ProgressMeter& progress) {
    AtomicFile file(path);
    const std::string header = shard_header(shard);
    const uint64_t n = header.size();
    file.write(std::as_bytes(std::span(&n, 1)));
    file.write(header);
    for (const OutputTensor* t : shard) {
        stream_tensor(*t, pool, [&](std::span<const std::byte> bytes) {
            file.write(bytes);
            progress.add(bytes.size());
        });
    }
    file.commit();
}

void write_index(const fs::path& path, const std::vector<OutputShard>& shards, uint64_t total) {
    Json::object_t map;
    for (size_t i = 0; i < shards.size(); ++i) {
        for (const OutputTensor* t : shards[i]) map.emplace_back(t->name, shard_name(i, shards.size()));
    }
    write_whole(path,
                indented({{"metadata", {{"total_size", total}}}, {"weight_map", Json(std::move(map))}}));
}

// Templates beyond the default one have their own folder.
void write_chat_templates(const fs::path& folder, const Metadata& metadata) {
    const std::string key = "tokenizer.chat_template";
    for (const auto& [name, value] : metadata.values()) {
        const auto* text = std::get_if<std::string>(&value);
        if (text == nullptr) continue;
        if (name == key) write_whole(folder / "chat_template.jinja", *text);
        if (!name.starts_with(key + ".")) continue;
        const std::string variant = name.substr(key.size() + 1);
        if (variant.empty() || variant.find_first_of("/\\") != std::string::npos || variant[0] == '.') {
            throw Error("chat template '{}': its name cannot be a file name", variant);
        }
        fs::create_directories(folder / "additional_chat_templates");
        write_whole(folder / "additional_chat_templates" / (variant + ".jinja"), *text);
    }
}

Format format_of_matrices(const std::vector<OutputTensor>& plan) {
    const auto matrix = std::ranges::find_if(plan, [](const auto& t) {
        return t.shape.size() == 2 && format_info(t.format).block_len == 1 && t.dtype.empty();
    });
    return matrix == plan.end() ? Format::F32 : matrix->format;
}

void pack_matrices(std::vector<OutputTensor>& plan, const PackedOptions& packed) {
    std::vector<OutputTensor> result;
    for (OutputTensor& t : plan) {
        if (t.format != Format::Q4_Z) {
            result.push_back(std::move(t));
            continue;
        }
        for (OutputTensor& part : pack_tensor(t, packed)) result.push_back(std::move(part));
    }
    plan = std::move(result);
}

}  // namespace

void write_hugging_face(const ModelFile& model, const fs::path& target, const HuggingFaceTexts& texts,
                        const WriteOptions& options) {
    const std::string* architecture = model.metadata.get_string("general.architecture");
    const Family* family = family_of(model.metadata);
    if (family == nullptr) {
        throw Error("{}: architecture {}: this build cannot write its config.json", model.path.string(),
                    architecture == nullptr ? "(none)" : *architecture);
    }
    if (options.format && format_info(*options.format).block_len != 1) {
        throw Error("{}: a Hugging Face folder cannot hold {}; f32, f16 and bf16 it can", target.string(),
                    to_string(*options.format));
    }
    std::vector<OutputTensor> plan =
        plan_tensors(model, {options.format, Container::hugging_face, &options.formats});
    if (options.packed) pack_matrices(plan, *options.packed);
    Json config = make_hf_config(model, *family, format_of_matrices(plan));
    if (std::ranges::any_of(plan, [](const auto& t) { return t.plane != Plane::whole; })) {
        config["quantization_config"] = {
            {"quant_method", "mxfp4"},
            {"modules_to_not_convert",
             {"model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"}}};
    }
    if (options.packed) config["quantization_config"] = packed_config(*options.packed);
    const Json generation = make_generation_config(model.metadata);
    uint64_t total = 0;
    for (const OutputTensor& t : plan) total += t.n_bytes();

    TemporaryFolder folder(target);
    write_whole(folder.path() / "config.json", indented(config));
    if (!generation.empty()) write_whole(folder.path() / "generation_config.json", indented(generation));
    if (!texts.tokenizer_json.empty()) write_whole(folder.path() / "tokenizer.json", texts.tokenizer_json);
    if (!texts.tokenizer_config_json.empty()) {
        write_whole(folder.path() / "tokenizer_config.json", texts.tokenizer_config_json);
    }
    write_chat_templates(folder.path(), model.metadata);
    write_pooling(model, folder.path());

    ProgressMeter progress(total, options);
    ThreadPool pool(options.n_threads);
    const std::vector<OutputShard> shards = make_shards(plan, options.shard_bytes);
    for (size_t i = 0; i < shards.size(); ++i) {
        write_shard(folder.path() / shard_name(i, shards.size()), shards[i], pool, progress);
    }
    if (shards.size() > 1) write_index(folder.path() / "model.safetensors.index.json", shards, total);
    folder.commit();
}

}  // namespace smelt
