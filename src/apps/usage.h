// What is wrong with a command line, in words: CLI11 finds the fault, the sentences are ours.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace smelt {

// One line. `verb`: the name of the verb of the line, or "".
std::string usage_text(const CLI::ParseError& error, const std::string& verb);

// Words before the verb that are no options, and the verb itself. Throw CLI::ValidationError with the nearest
// name that exists.
[[noreturn]] void refuse_verb(const CLI::App& smelt, const std::string& word);
[[noreturn]] void refuse_option(const CLI::App& smelt, const CLI::App* verb, const std::string& word,
                                std::vector<std::string> more_names);

}  // namespace smelt
