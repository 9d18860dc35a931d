// The CPU backend: kernels for the best instruction set of the processor, run by a team of threads.
#pragma once

#include <memory>

#include "backend/backend.h"

namespace smelt {

// Throws Error when the processor lacks options.isa.
std::unique_ptr<Backend> make_cpu_backend(const BackendOptions& options);
// "16 threads, AVX-512 VNNI", without starting them.
std::string describe_cpu_backend(const BackendOptions& options);

}  // namespace smelt
