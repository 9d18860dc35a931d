// Drawn at most ten times a second, on one line.
#include "apps/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "base/log.h"
#include "base/units.h"

namespace smelt {

namespace {

constexpr int bar_width = 30;  // characters of the bar
constexpr auto interval = std::chrono::milliseconds(100);

std::string amount(uint64_t n, ProgressBar::Unit unit) {
    switch (unit) {
        case ProgressBar::Unit::bytes:
            return bytes_text(n);
        case ProgressBar::Unit::tokens:
            return fmt::format("{} tokens", n);
        case ProgressBar::Unit::tensors:
            break;
    }
    return fmt::format("{} tensors", n);
}

// "1:05 min left"
std::string time_left(double seconds) {
    if (!(seconds < 360000)) return {};
    const auto s = static_cast<int>(seconds + 0.5);
    return s < 60 ? fmt::format("{} s left", s) : fmt::format("{}:{:02} min left", s / 60, s % 60);
}

}  // namespace

ProgressBar::ProgressBar(std::string label, Unit unit)
    : label_(std::move(label)),
      unit_(unit),
      enabled_(::isatty(STDERR_FILENO) == 1 && spdlog::should_log(spdlog::level::info)),
      started_(std::chrono::steady_clock::now()),
      last_(started_) {}

ProgressBar::~ProgressBar() {
    if (drawn_) fmt::print(stderr, "\r\x1b[K");
}

void ProgressBar::show(uint64_t done, uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!enabled_ || (now - last_ < interval && done < total)) return;
    last_ = now;
    if (!drawn_) first_done_ = done;
    drawn_ = true;
    const double part = total == 0 ? 1 : static_cast<double>(done) / static_cast<double>(total);
    const int filled = std::clamp(static_cast<int>(part * bar_width), 0, bar_width);
    const double seconds = std::chrono::duration<double>(now - started_).count();
    const double rate = static_cast<double>(done - first_done_) / std::max(seconds, 1e-3);
    const double left = static_cast<double>(total - std::min(done, total)) / std::max(rate, 1e-9);
    fmt::print(stderr, "\r\x1b[K{} [{:#<{}}{:-<{}}] {:3.0f} %  {} of {}  {}/s  {}", label_, "", filled, "",
               bar_width - filled, part * 100, amount(done, unit_), amount(total, unit_),
               amount(static_cast<uint64_t>(rate), unit_), time_left(left));
    std::fflush(stderr);
}

}  // namespace smelt
