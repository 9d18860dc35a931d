// Messages for people, one line each: on stderr, so that stdout carries results only, or where a program
// wants them.
#pragma once

#include <spdlog/spdlog.h>

#include <functional>
#include <string>
#include <string_view>

namespace smelt {

enum class LogLevel { quiet, normal, verbose };

// Before the first message; call once, from main().
void init_log(LogLevel level);

// A message may quote a file or a name, and neither must steer the terminal or look like a line of its own.
enum class Lines { one, many };
std::string printable(std::string text, Lines lines);

// For programs that are not ours. Messages from debug up go to the function, one at a time; empty: nowhere.
void send_log(std::function<void(spdlog::level::level_enum, std::string_view)> on_message);
// Warnings and errors to stderr, where the program has not chosen yet: spdlog's own first logger writes to
// stdout.
void init_log_of_library();

}  // namespace smelt
