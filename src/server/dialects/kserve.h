// What the routes of KServe v2 share.
#pragma once

#include "server/routes.h"

namespace smelt {

inline constexpr const char* kserve_version = "1";  // of every model

// Throw RequestError, 404, where the path, or the caller, names another one. Empty is any.
void check_kserve_version(const Call& call);
void check_kserve_version(const std::string& model, const std::string& version);

}  // namespace smelt
