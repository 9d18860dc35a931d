// Memory put aside for when there is none. Some destructors allocate (those of JSON values do), and where one
// cannot, the process ends; what a failed allocation frees here lets them, and whoever gives up its work,
// come through.
#pragma once

namespace smelt {

// From now on, an operator new that fails takes the reserve and tries again, and throws bad_alloc only after
// that.
void hold_memory_reserve();

// False: the reserve was taken and cannot be put aside again, so this is no time for new work.
bool renew_memory_reserve();

// Memory that is free goes back to the system, as far as the C library can.
void return_free_memory();

}  // namespace smelt
