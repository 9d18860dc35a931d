// A vision tower as llama.cpp's converter writes it: its own GGUF file beside the language model's.
#include <cmath>
#include <deque>

#include "base/error.h"
#include "files/limits.h"
#include "files/writers.h"

namespace smelt {

namespace {

Metadata mmproj_metadata(const Metadata& tower) {
    const auto number = [&](const char* key) {
        const int64_t value = tower.get_int(std::string("clip.vision.") + key).value_or(0);
        const int64_t most = key == std::string_view("block_count") ? limits::layers : limits::size;
        if (value < 1 || value > most)
            throw Error("clip.vision.{}: expected 1 to {}, found {}", key, most, value);
        return value;
    };
    Metadata out;
    out.set("general.architecture", std::string("clip"));
    out.set("general.type", std::string("mmproj"));
    out.set("clip.has_vision_encoder", true);
    out.set("clip.projector_type", std::string("qwen3vl_merger"));
    out.set("clip.use_gelu", true);
    for (const char* key : {"block_count", "embedding_length", "feed_forward_length", "attention.head_count",
                            "projection_dim", "patch_size", "spatial_merge_size"})
        out.set(std::string("clip.vision.") + key, number(key));
    const auto side = std::lround(std::sqrt(static_cast<double>(number("n_positions"))));
    out.set("clip.vision.image_size", int64_t{side} * number("patch_size"));
    out.set("clip.vision.attention.layer_norm_epsilon",
            tower.get_double("clip.vision.attention.layer_norm_epsilon").value_or(1e-6));
    for (const char* key : {"clip.vision.image_min_pixels", "clip.vision.image_max_pixels"})
        if (const auto value = tower.get_int(key)) out.set(key, *value);
    for (const char* key : {"clip.vision.image_mean", "clip.vision.image_std"}) {
        const auto* colours = tower.get_doubles(key);
        out.set(key, colours != nullptr ? *colours : std::vector<double>{0.5, 0.5, 0.5});
    }
    std::vector<int64_t> flags(static_cast<size_t>(number("block_count")));
    if (const auto* layers = tower.get_ints("clip.vision.deepstack_layers"))
        for (const int64_t il : *layers) {
            if (il < 0 || il >= std::ssize(flags))
                throw Error("clip.vision.deepstack_layers: expected 0 to {}, found {}", std::ssize(flags) - 1,
                            il);
            flags[static_cast<size_t>(il)] = 1;
        }
    out.set("clip.vision.is_deepstack_layers", std::move(flags));
    return out;
}

}  // namespace

void write_mmproj(const ModelFile& model, const std::filesystem::path& path) {
    if (model.vision == nullptr) throw Error("{}: it has no vision tower to write", model.path.string());
    const ModelFile& tower = *model.vision;
    const Metadata metadata = mmproj_metadata(tower.metadata);
    const int64_t patch = *metadata.get_int("clip.vision.patch_size"), area = patch * patch;
    std::deque<std::vector<float>> values;
    std::vector<TensorView> tensors;
    const auto add = [&](const TensorView& like, std::string name, std::vector<int64_t> shape,
                         std::vector<float> floats) {
        values.push_back(std::move(floats));
        tensors.push_back({std::move(name),
                           Format::F32,
                           std::move(shape),
                           std::as_bytes(std::span(values.back())),
                           {},
                           like.source});
    };
    for (const TensorView& t : tower.tensors) {
        // A convolution for each of two frames; of a row here they take turns by colour.
        if (t.name == "v.patch_embd.weight") {
            const std::vector<float> all = t.decoded();
            if (all.size() % static_cast<size_t>(2 * area) != 0)
                throw Error("{}: expected rows of two frames of {} pixels a side", t.name, patch);
            for (int64_t frame = 0; frame < 2; ++frame) {
                std::vector<float> part;
                for (size_t at = 0; at < all.size(); at += static_cast<size_t>(2 * area)) {
                    const auto from = all.begin() + static_cast<ptrdiff_t>(at) + frame * area;
                    part.insert(part.end(), from, from + area);
                }
                add(t, frame == 0 ? t.name : t.name + ".1", {t.shape[0], 3, patch, patch}, std::move(part));
            }
        } else if (t.shape.size() == 1 || t.name == "v.position_embd.weight") {
            add(t, t.name, t.shape, t.decoded());  // as llama.cpp asks for
        } else {
            tensors.push_back(t);
        }
    }
    write_gguf_tensors(tensors, metadata, path);
}

}  // namespace smelt
