// Sizes from the model, the peak from the system.
#include "apps/memory_use.h"

#include <fmt/format.h>

#include "base/process_use.h"

namespace smelt {

MemoryUse memory_use(const ChatModel& model) {
    return {.weights = model.model().weight_bytes(),
            .kv = model.runner().kv_bytes(),
            .activations = model.runner().activation_bytes(),
            .process_peak = read_process_use().peak_resident};
}

std::string MemoryUse::text() const {
    const auto mb = [](size_t bytes) { return static_cast<double>(bytes) / 1e6; };
    return fmt::format(
        "{:.1f} MB of weights, {:.1f} MB KV, {:.1f} MB activations, {:.1f} MB resident at most", mb(weights),
        mb(kv), mb(activations), mb(process_peak));
}

Json MemoryUse::json() const {
    return {{"weight_bytes", weights},
            {"kv_bytes", kv},
            {"activation_bytes", activations},
            {"process_peak_bytes", process_peak}};
}

}  // namespace smelt
