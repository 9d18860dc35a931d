// From the system's own words.
#include "apps/start_lines.h"

#include <fmt/format.h>
#include <sys/utsname.h>

#include "apps/version.h"
#include "base/cpu_info.h"
#include "base/log.h"
#include "base/nvml.h"
#include "base/units.h"

namespace smelt {

void log_machine() {
    (void)recent_gpus();  // opens the driver's library now, not while somebody waits for /health
    const CpuInfo cpu = read_cpu_info();
    const MemoryInfo memory = read_memory_info();
    utsname system{};
    ::uname(&system);
    spdlog::info("smelt {} on {}: {} cores ({} threads), {} of memory, {} free, {} {} {}", version(),
                 cpu.model.empty() ? "an unknown processor" : cpu.model, cpu.physical_cores,
                 cpu.logical_cores, bytes_text(memory.total), bytes_text(memory.available), system.sysname,
                 system.release, system.machine);
}

void log_device(const std::string& asked, const Backend& taken) {
    std::string others;
    for (const BackendInfo& info : list_backends()) {
        const bool is_candidate = info.name != taken.name() && info.name != "reference";
        if (!is_candidate) continue;
        others += fmt::format("; not {}: {}", info.name,
                              info.missing.empty() ? "it is not the best of this build" : info.missing);
    }
    spdlog::info("device {}: {}, {}, {} of memory free{}", asked, taken.name(), taken.description(),
                 bytes_text(taken.available_memory()), asked == "auto" ? others : "");
}

void log_model(const std::string& name, const ChatModel& chat, int n_replicas) {
    const ModelConfig& c = chat.model().config();
    std::string experts;
    if (c.n_experts > 0)
        experts = fmt::format(", {} experts of which {} work", c.n_experts, c.n_experts_used);
    spdlog::info(
        "{}: {}, {} of weights, {} layers, dim {}, {} heads ({} of keys and values), vocabulary {}{}; "
        "context {} of "
        "{} trained tokens, KV cache {}{}",
        name, c.architecture, bytes_text(chat.model().weight_bytes()), c.n_layers, c.dim, c.n_heads,
        c.n_kv_heads, c.vocab_size, experts, chat.n_ctx(), c.n_ctx_train,
        bytes_text(chat.runner().kv_bytes()),
        n_replicas > 1 ? fmt::format(" each of {} replicas", n_replicas) : "");
}

}  // namespace smelt
