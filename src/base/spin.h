// One turn of a loop that waits for another core.
#pragma once

namespace smelt {

// About 20 µs on a 3 GHz core: longer than the gap between two ops of a decode step, shorter than a time
// slice. After so many turns a waiting thread should sleep.
inline constexpr int spin_rounds = 2000;

inline void spin_pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace smelt
