// The pictures of one prompt: read in order, each within what the ones before have left of the bounds.
#pragma once

#include "chat/chat_model.h"

namespace smelt {

class PromptPictures {
 public:
    // Borrows the model.
    explicit PromptPictures(const ChatModel& model) : model_(model) {}

    // Throws Error, which begins with `name`, where the file is no picture, the model takes none, or there
    // are too many.
    void add(std::span<const char> file, const std::string& name);
    std::vector<std::shared_ptr<const Patches>> take() { return std::move(all_); }

 private:
    const ChatModel& model_;
    std::vector<std::shared_ptr<const Patches>> all_;
    int64_t pixels_left_ = 256'000'000;  // of all files together, before they are resized
    int64_t n_tokens_ = 0;
};

}  // namespace smelt
