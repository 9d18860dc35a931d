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

constexpr int width = 30;  // characters of the bar
constexpr auto interval = std::chrono::milliseconds(100);

}  // namespace

ProgressBar::ProgressBar(std::string label)
    : label_(std::move(label)),
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
    const int filled = std::clamp(static_cast<int>(part * width), 0, width);
    const double seconds = std::chrono::duration<double>(now - started_).count();
    const auto rate =
        static_cast<uint64_t>(static_cast<double>(done - first_done_) / std::max(seconds, 1e-3));
    fmt::print(stderr, "\r\x1b[K{} [{:#<{}}{:-<{}}] {:3.0f} %  {} of {}  {}/s", label_, "", filled, "",
               width - filled, part * 100, bytes_text(done), bytes_text(total), bytes_text(rate));
    std::fflush(stderr);
}

}  // namespace smelt
