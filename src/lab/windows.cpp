// A window in two steps: the first half gives keys and values alone.
#include "lab/windows.h"

#include <algorithm>

namespace smelt {

TextWindows::TextWindows(std::span<const int32_t> text, int window_length, int most) : length(window_length) {
    CHECK(length >= 4 && most >= 0, "windows of {}, {} at most", length, most);
    size_t n_windows = text.size() / static_cast<size_t>(length);
    if (most > 0) n_windows = std::min(n_windows, static_cast<size_t>(most));
    const auto whole = text.first(n_windows * static_cast<size_t>(length));
    ids.assign(whole.begin(), whole.end());
}

WindowReader::WindowReader(const Model& model, Backend& backend, int length, const KvFormats& kv)
    : runner_(model, backend, length, kv), vocab_size_(static_cast<size_t>(model.config().vocab_size)) {}

std::span<const float> WindowReader::logits(const TextWindows& windows, size_t i) {
    const auto ids = windows.window(i);
    const auto half = static_cast<size_t>(windows.first());
    runner_.rewind(0);
    runner_.feed(ids.first(half), SequenceRunner::Logits::none);
    const auto rows = runner_.feed(ids.subspan(half), SequenceRunner::Logits::all);
    return rows.first(windows.targets(i).size() * vocab_size_);
}

}  // namespace smelt
