// Messages for people: one line each on stderr, so that stdout carries results only.
#pragma once

#include <spdlog/spdlog.h>

#include <string>

namespace smelt {

enum class LogLevel { quiet, normal, verbose };

// Before the first message; call once, from main().
void init_log(LogLevel level);

// A message may quote a file or a name, and neither must steer the terminal or look like a line of its own.
enum class Lines { one, many };
std::string printable(std::string text, Lines lines);

}  // namespace smelt
