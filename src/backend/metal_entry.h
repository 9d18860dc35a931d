// How the registry reaches the Metal backend, of which a program has one definition: the backend in
// backend/metal/, or metal_none.cpp, which the linker takes from the library when nothing else defines these
// two.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace smelt {

BackendInfo metal_backend_info();
std::unique_ptr<Backend> make_metal_backend(
    const BackendOptions& options);  // throws Error when there is no device

}  // namespace smelt
