// The text of the kernel files, expanded, for MTLDevice's compiler; written by cmake/metal.cmake. One library
// each.
#pragma once

#include <span>

namespace smelt {

std::span<const char* const> metal_kernel_sources();

}  // namespace smelt
