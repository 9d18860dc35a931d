// Who may use a server: where its keys come from, and what is wrong with them.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "server/guard.h"

namespace smelt {

// Of --api-key and SMELT_API_KEY. All throw Error, which names the source.
void check_given_keys(const CLI::App& verb, const std::vector<std::string>& keys);
// Adds those of a file, with blanks between them; nothing where the path is empty.
void read_keys(const std::string& path, std::vector<std::string>& keys);
void check_admin_keys(const AccessOptions& access);

}  // namespace smelt
