// What the routes of KServe v2 share.
#pragma once

#include "server/routes.h"

namespace smelt {

inline constexpr const char* kserve_version = "1";  // of every model

// Throws RequestError, 404, where the path names another one.
void check_kserve_version(const Call& call);

}  // namespace smelt
