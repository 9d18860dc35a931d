// Flags of llama.cpp's programs and of vLLM, so that people's scripts run: those that mean what an option of
// ours means are other names for it; those without effect here are accepted with a warning that says why;
// those that would change what the script gets are refused with the way out.
#pragma once

#include <CLI/CLI.hpp>
#include <span>
#include <string>
#include <vector>

namespace smelt {

enum class PeerEffect { same, none, refused };
enum class PeerValue { no, yes, maybe, many };  // maybe: one of `silent`, or none; many: up to the next flag

struct PeerFlag {
    const char* verbs;  // run, serve, or both with a comma between
    const char* names;  // comma-separated
    const char* of;     // llama.cpp, vLLM
    PeerValue value;
    PeerEffect effect;
    const char* text;         // our option; or why it has no effect; or what to do instead
    const char* silent = "";  // comma-separated values that say what holds anyway: no warning, no refusal
};

std::span<const PeerFlag> peer_flags();

struct Translation {
    std::vector<std::string> arguments, warnings;
    std::string verb = {};
};
// `arguments` without the program's name, in our own flags. Throws CLI::ValidationError for what is refused,
// and for verbs and flags that nobody has.
Translation translate_peer_flags(const CLI::App& smelt, const std::vector<std::string>& arguments);

}  // namespace smelt
