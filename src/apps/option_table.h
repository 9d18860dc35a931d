// The command line as data, read off CLI11's definitions: completions, manual pages and docs/FLAGS.md are
// made of it.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace smelt {

struct OptionRow {
    std::vector<std::string> names = {};  // "-c", "--ctx"; without dashes where it is an argument
    std::string value = {};               // "NUMBER", "FILE"; empty: a flag
    std::vector<std::string> choices = {};
    std::string doc = {}, fallback = {}, environment = {};
    std::string group = {};  // of --help
    bool is_argument = false, is_required = false, is_repeated = false;

    bool takes_file() const;   // or any path
    bool takes_model() const;  // a path, or the id of a pulled model
};

struct VerbRow {
    std::vector<std::string> names = {};  // and aliases
    std::string doc = {}, footer = {}, group = {};
    std::vector<OptionRow> options = {};
};

struct CommandTable {
    std::string doc = {};
    std::vector<OptionRow> common = {};
    std::vector<VerbRow> verbs = {};
};

CommandTable command_table(const CLI::App& smelt);

// option_table_completion.cpp
std::string completion_script(const CommandTable& table, const std::string& shell);  // bash, zsh, fish

// option_table_manual.cpp
struct ManualPage {
    std::string file, text;  // "smelt-run.1", roff
};
std::vector<ManualPage> manual_pages(const CommandTable& table);
std::string flags_document(const CommandTable& table);  // docs/FLAGS.md

}  // namespace smelt
