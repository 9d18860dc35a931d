// smelt.toml: the options of `smelt serve` in [server], and a [[model]] each. Knows the file; what the values
// mean is serve.cpp's business.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "apps/model_text_options.h"

namespace smelt {

struct ConfigModel {
    std::string name, path;
    std::vector<std::string> aliases = {};
    // As the option of the same name, where the file has it.
    std::optional<int> context = {}, threads = {}, max_seqs = {};
    std::optional<int64_t> kv_tokens = {};
    std::optional<std::string> device = {};
    std::optional<std::string> draft_model = {};
    SamplingChanges sampling = {};
    TemplateOptions chat = {};
    std::optional<std::string> system = {};
    std::string pooling = {};
    std::string role = {};  // "", "fast", "best"
    int replicas = 1;
    int idle_unload = 0;                 // seconds; 0: never
    std::vector<std::string> lora = {};  // see parse_adapter()
    std::string api_key_file = {};       // keys that may use it; empty: all
};

// Gives [server]'s values to those options of `verb` that the command line and the environment left alone;
// returns the models. Paths are relative to the file. Throws Error naming file, line, what is known there and
// what was found.
std::vector<ConfigModel> read_serve_config(const std::filesystem::path& path, CLI::App& verb);

}  // namespace smelt
