// MODEL on the command line: a path, or an id of the Hugging Face hub, which is pulled where it is not here
// yet.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "files/hub/hub.h"

namespace smelt {

// The argument of every verb that opens a model; not yet local_model().
CLI::Option* add_model_argument(CLI::App& verb, std::string& model);

// HF_ENDPOINT, HF_HUB_CACHE, HF_HOME, HF_TOKEN and the others that Hugging Face's tools know.
HubOptions hub_options();

// `model` as a path: as it stands, or of the pulled files. Says the size before it pulls. Throws Error.
std::string local_model(const std::string& model);

// With a bar and a line on stderr.
std::filesystem::path pull_with_progress(HubOptions options, const HubId& id);

}  // namespace smelt
