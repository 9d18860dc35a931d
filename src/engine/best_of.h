// Makes more answers than are told, and tells the best.
#pragma once

#include "engine/request.h"

namespace smelt {

// The request that makes `best_of` answers and whose sink passes the n likeliest on. Others as they are.
Request with_best_of(Request request);

}  // namespace smelt
