// --help: options grouped by purpose, their values as words, lines that fit a terminal.
#pragma once

#include <CLI/CLI.hpp>

#include "apps/option_table.h"

namespace smelt {

class HelpText : public CLI::FormatterBase {
 public:
    std::string make_help(const CLI::App* app, std::string name, CLI::AppFormatMode mode) const override;
};

// "smelt run [OPTION]... MODEL [PROMPT]"
std::string synopsis(const VerbRow& verb);

}  // namespace smelt
