// What a test may expect of a build with a sanitizer: the same results, later, in more memory.
#pragma once

namespace smelt {

// How much longer than usual things may take: every limit of time in a test is multiplied by it.
#if defined(__SANITIZE_THREAD__)
inline constexpr int patience = 10;
#elif defined(__SANITIZE_ADDRESS__)
inline constexpr int patience = 5;
#else
inline constexpr int patience = 1;
#endif

// Shadow memory counts as resident, and needs terabytes of addresses.
inline constexpr bool has_shadow_memory = patience > 1;

}  // namespace smelt
