// Prometheus' text format, version 0.0.4.
#include "server/models/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace smelt {

namespace {

constexpr size_t max_latest = 2048;

}  // namespace

void Latency::add(double seconds) {
    const auto bucket = std::ranges::lower_bound(bounds_, seconds) - bounds_.begin();
    ++counts_[static_cast<size_t>(bucket)];
    sum_ += seconds;
    ++n_;
    latest_.push_back(static_cast<float>(seconds));
    if (latest_.size() > max_latest) latest_.pop_front();
}

void Latency::print(std::string& out, const std::string& name, const std::string& labels) const {
    uint64_t below = 0;
    for (size_t i = 0; i < bounds_.size(); ++i) {
        below += counts_[i];
        out += fmt::format("{}_bucket{{{},le=\"{}\"}} {}\n", name, labels, bounds_[i], below);
    }
    out += fmt::format("{}_bucket{{{},le=\"+Inf\"}} {}\n", name, labels, n_);
    out += fmt::format("{}_sum{{{}}} {}\n{}_count{{{}}} {}\n", name, labels, sum_, name, labels, n_);
}

Json Latency::percentiles() const {
    if (latest_.empty()) return nullptr;
    std::vector<float> sorted(latest_.begin(), latest_.end());
    std::ranges::sort(sorted);
    const auto at = [&](double q) {
        return 1e3 *
               static_cast<double>(sorted[static_cast<size_t>(q * static_cast<double>(sorted.size() - 1))]);
    };
    const double mean =
        std::accumulate(sorted.begin(), sorted.end(), 0.0) / static_cast<double>(sorted.size());
    return {{"p50_ms", at(0.5)},
            {"p90_ms", at(0.9)},
            {"p99_ms", at(0.99)},
            {"mean_ms", 1e3 * mean},
            {"count", n_}};
}

void MetricsText::family(const std::string& name, const char* type, const char* help) {
    name_ = name;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

void MetricsText::value(const std::string& labels, double v) {
    text_ +=
        labels.empty() ? fmt::format("{} {}\n", name_, v) : fmt::format("{}{{{}}} {}\n", name_, labels, v);
}

std::string model_label(const std::string& name) {
    std::string escaped;
    for (const char c : name) {
        if (c == '\n') {
            escaped += "\\n";
            continue;
        }
        if (c == '"' || c == '\\') escaped += '\\';
        escaped += c;
    }
    return fmt::format("model_name=\"{}\"", escaped);
}

}  // namespace smelt
