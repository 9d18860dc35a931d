// Pictures of a conversation: files become patches, and a prompt has a token for each of their places.
#include "chat/picture_prompt.h"

#include <algorithm>
#include <mutex>

#include "base/cpu_info.h"
#include "base/error.h"

namespace smelt {

void PromptPictures::add(std::span<const char> file, const std::string& name) {
    constexpr size_t most = 64;
    if (all_.size() == most) throw Error("{}: expected at most {} pictures", name, most);
    all_.push_back(
        std::make_shared<const Patches>(model_.make_patches(std::as_bytes(file), name, pixels_left_)));
    n_tokens_ += all_.back()->n_tokens();
    if (n_tokens_ > model_.n_ctx()) {
        throw Error("{}: the pictures up to here are {} tokens; the context has room for {}", name, n_tokens_,
                    model_.n_ctx());
    }
}

Patches ChatModel::make_patches(std::span<const std::byte> file, const std::string& name,
                                int64_t& pixels_left) const {
    if (!takes_pictures()) throw Error("{}: the model sees text alone", name);
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    constexpr int64_t bytes_per_pixel = 12;  // while it is read: what libraries keep, RGB, and a smaller copy
    const auto room = static_cast<int64_t>(read_memory_info().available / 2) / bytes_per_pixel;
    ImageLimits limits;
    limits.max_pixels = std::min({limits.max_pixels, pixels_left, room});
    const Image image = decode_image(file, name, limits);
    pixels_left -= int64_t{image.width} * image.height;
    return smelt::make_patches(image, patch_rules_);
}

std::vector<Picture> ChatModel::find_pictures(
    std::span<const int32_t> ids, std::span<const std::shared_ptr<const Patches>> pictures) const {
    if (!takes_pictures()) throw Error("pictures: the model sees text alone");
    return find_places(ids, image_token_, pictures);
}

// The template prints one image token for each picture; it becomes as many as the picture has.
void ChatModel::place_pictures(Prompt& prompt, const PromptOptions& options) const {
    const auto& pictures = options.pictures;
    if (pictures.empty()) return;
    const auto n = static_cast<size_t>(std::ranges::count(prompt.ids, image_token_));
    if (n != pictures.size()) {
        throw TemplateError("TemplateError", fmt::format("it prints {} of {} pictures", n, pictures.size()),
                            0);
    }
    std::vector<int32_t> ids;
    for (const int32_t id : prompt.ids) {
        if (id != image_token_) {
            ids.push_back(id);
            continue;
        }
        prompt.pictures.push_back({pictures[prompt.pictures.size()], static_cast<int>(ids.size())});
        ids.insert(ids.end(), static_cast<size_t>(prompt.pictures.back().patches->n_tokens()), id);
    }
    prompt.ids = std::move(ids);
}

}  // namespace smelt
