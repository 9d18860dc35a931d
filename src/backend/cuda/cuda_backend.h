// The backend for NVIDIA GPUs.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace smelt {

BackendInfo cuda_backend_info();
std::unique_ptr<Backend> make_cuda_backend(
    const BackendOptions& options);  // throws Error when there is no GPU

}  // namespace smelt
