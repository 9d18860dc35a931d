// Text as a model is judged by it: cut into windows of so many tokens, each read alone from its first token
// on; the tokens of a window's second half are predicted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "engine/forward.h"

namespace smelt {

struct TextWindows {
    int length = 512;
    std::vector<int32_t> ids;  // whole windows

    // What is left beyond the last whole window is not looked at. `most` windows, the first ones; 0: all.
    TextWindows(std::span<const int32_t> text, int length, int most = 0);

    size_t n() const { return ids.size() / static_cast<size_t>(length); }
    std::span<const int32_t> window(size_t i) const {
        return std::span(ids).subspan(i * static_cast<size_t>(length), static_cast<size_t>(length));
    }
    // The first token that is read for a prediction, and the tokens that are predicted.
    int first() const { return length / 2; }
    std::span<const int32_t> targets(size_t i) const {
        return window(i).subspan(static_cast<size_t>(first()) + 1);
    }
};

// One model over windows.
class WindowReader {
 public:
    // Borrows model and backend.
    WindowReader(const Model& model, Backend& backend, int length, const KvFormats& kv);
    // (targets, vocab_size), valid until the next step on the backend.
    std::span<const float> logits(const TextWindows& windows, size_t i);

 private:
    SequenceRunner runner_;
    size_t vocab_size_;
};

}  // namespace smelt
