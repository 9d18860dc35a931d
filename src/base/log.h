// Messages for people: one line each on stderr, so that stdout carries results only.
#pragma once

#include <spdlog/spdlog.h>

namespace smelt {

enum class LogLevel { quiet, normal, verbose };

// Before the first message; call once, from main().
void init_log(LogLevel level);

}  // namespace smelt
