// A placement as text, for tests and for people.
#include <fmt/format.h>

#include "backend/placement.h"

namespace smelt {

std::string Placement::print() const {
    const auto list = [](DeviceMask mask) {
        std::string text;
        for (int d = 0; d < max_devices; ++d) {
            if ((mask >> d & 1) != 0) text += fmt::format(" {}", d);
        }
        return text;
    };
    const auto shape = [](const Tensor& t) {
        std::string text = fmt::format("[{}", t.n_rows());
        for (int i = 1; i < t.rank; ++i) text += fmt::format(", {}", t.shape[static_cast<size_t>(i)]);
        return text + "]";
    };
    std::string text;
    for (size_t i = 0; i < phases.size(); ++i) {
        text += fmt::format("phase {}\n", i);
        for (size_t d = 0; d < phases[i].parts.size(); ++d) {
            if (!phases[i].parts[d].ops().empty())
                text += fmt::format("device {}\n{}", d, phases[i].parts[d].print());
        }
        for (const Move& move : phases[i].moves) {
            if (const auto* t = std::get_if<Transfer>(&move)) {
                text += fmt::format("Transfer {} from {} to{}\n", shape(t->tensor), t->from, list(t->to));
            } else if (const auto* sum = std::get_if<AllReduce>(&move)) {
                text += fmt::format("AllReduce {}\n", shape(sum->tensor));
            } else {
                const auto& g = std::get<AllGather>(move);
                text += fmt::format("AllGather {} of {} x {} units of {} to{}\n", shape(g.tensor),
                                    g.split.parts, g.split.n_units, g.split.unit, list(g.to));
            }
        }
    }
    return text;
}

}  // namespace smelt
