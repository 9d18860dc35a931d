// By where a weight's bytes lie.
#include "lab/named_backend.h"

namespace smelt {

Weight NamedBackend::load(const WeightView& view, const WeightRole& role) {
    Weight w = backend_.load(view, role);
    for (const TensorView& t : file_.tensors) {
        if (t.data.empty() || view.data.data() < t.data.data() ||
            view.data.data() >= t.data.data() + t.data.size()) {
            continue;
        }
        const auto offset = view.data.data() - t.data.data();
        const auto row_bytes = static_cast<std::ptrdiff_t>(data_bytes(t.format, t.row_len()));
        parts_[w.storage.get()] = {&t, row_bytes == 0 ? 0 : offset / row_bytes};
        break;
    }
    return w;
}

TensorPart NamedBackend::part_of(const Weight& weight) const {
    const auto found = parts_.find(weight.storage.get());
    return found == parts_.end() ? TensorPart{} : found->second;
}

}  // namespace smelt
