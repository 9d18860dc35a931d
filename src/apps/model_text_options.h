// What replaces a model's own words and numbers, of `run` and `serve`: its sampling, its template, the
// variables of the template.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "base/json.h"
#include "sampling/sampling_table.h"

namespace smelt {

// The text itself, or the file that it names.
std::string text_or_file(const std::string& text);

// One option for each row of the sampling table that has flags.
void add_sampling_options(CLI::App& verb, SamplingChanges& to);

struct TemplateOptions {
    std::string source = {};  // Jinja; empty: the model's own
    Json kwargs = {};         // object, or null
};
void add_template_options(CLI::App& verb, TemplateOptions& o);

// Throw Error naming `where` and what was expected.
std::string read_template_option(const std::string& where, const std::string& text);
Json read_kwargs_option(const std::string& where, const std::string& text);

}  // namespace smelt
