// Which models a server has, and what requests call them.
#pragma once

#include <string>
#include <vector>

#include "apps/serve_config.h"

namespace smelt {

// Those of the config file, then those of the command line (`given`: NAME=PATH or PATH, `names`: --name),
// which may also give one of the file another path. Throws CLI::ValidationError where two have one name: one
// of them would be out of reach.
std::vector<ConfigModel> name_models(const std::vector<std::string>& given,
                                     const std::vector<std::string>& names, std::vector<ConfigModel> models);

}  // namespace smelt
