// What a ring in shared memory is made of: barriers that count arrivals and bytes, bulk copies, barriers of
// some of a block's warps, and what blocks of one launch tell each other through memory. Hopper's; the
// software GPU has them too.
#pragma once

#include "backend/cuda/kernels/dialect.cuh"

namespace smelt::cuda {

#ifdef SMELT_SOFTCUDA

using SharedAddress = uintptr_t;
inline SharedAddress shared_address(const void* p) {
    return reinterpret_cast<uintptr_t>(p);
}
// In the eight bytes of a barrier; a phase ends when all have arrived and all bytes have come.
struct SoftBarrier {
    uint8_t expected, pending;
    uint16_t phase;
    int32_t bytes;
    void end_phase() {
        if (pending > 0 || bytes > 0) return;
        pending = expected;
        ++phase;
    }
};
static_assert(sizeof(SoftBarrier) == sizeof(uint64_t));
inline SoftBarrier& soft_barrier(SharedAddress at) {
    return *reinterpret_cast<SoftBarrier*>(at);
}
inline void barrier_init(SharedAddress barrier, uint32_t count) {
    soft_barrier(barrier) = {static_cast<uint8_t>(count), static_cast<uint8_t>(count), 0, 0};
}
inline void barriers_are_ready() {}
inline void barrier_arrive(SharedAddress barrier) {
    --soft_barrier(barrier).pending;
    soft_barrier(barrier).end_phase();
}
inline void barrier_wait(SharedAddress barrier, uint32_t parity, SOFTCUDA_PLACE) {
    while ((soft_barrier(barrier).phase & 1u) == parity) softmetal::yield({file, line});
}
inline void barrier_expect(SharedAddress barrier, uint32_t n) {
    soft_barrier(barrier).bytes += static_cast<int32_t>(n);
    barrier_arrive(barrier);
}
inline void copy_bulk(SharedAddress to, const uint8_t* from, uint32_t n, SharedAddress barrier) {
    std::memcpy(reinterpret_cast<void*>(to), from, n);
    soft_barrier(barrier).bytes -= static_cast<int32_t>(n);
    soft_barrier(barrier).end_phase();
}
inline uint64_t read_once() {
    return 0;
}
inline void copy_bulk(SharedAddress to, const uint8_t* from, uint32_t n, SharedAddress barrier, uint64_t) {
    copy_bulk(to, from, n, barrier);
}
// Of the first n threads of the block.
inline void first_threads_barrier(uint32_t n, SOFTCUDA_PLACE) {
    static uint32_t n_arrived = 0, n_ended = 0;
    const uint32_t before = n_ended;
    if (softmetal::arrive(*softmetal::simdgroup, "bar.sync", {file, line})) {
        n_arrived += 32;
        if (n_arrived == n) {
            n_arrived = 0;
            ++n_ended;
        }
    }
    while (n_ended == before) softmetal::yield({file, line});
}
inline void add_released(uint32_t* to, uint32_t n) {
    *to += n;
}
inline uint32_t load_acquired(const uint32_t* from) {
    return *from;
}
inline void wait_until(const uint32_t* counter, uint32_t n, SOFTCUDA_PLACE) {
    while (*counter < n) softmetal::yield({file, line});
}

#else

using SharedAddress = uint32_t;
INLINE SharedAddress shared_address(const void* p) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
INLINE void barrier_init(SharedAddress barrier, uint32_t count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
INLINE void barriers_are_ready() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
INLINE void barrier_arrive(SharedAddress barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
INLINE void barrier_wait(SharedAddress barrier, uint32_t parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "again:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra over;\n"
        "bra again;\n"
        "over:\n"
        "}\n" ::"r"(barrier),
        "r"(parity)
        : "memory");
}
// The barrier's phase ends when so many bytes have come, after which copies are started.
INLINE void barrier_expect(SharedAddress barrier, uint32_t n) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(n) : "memory");
}
// n bytes, a multiple of 16, to shared memory.
INLINE void copy_bulk(SharedAddress to, const uint8_t* from, uint32_t n, SharedAddress barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
        "l"(from), "r"(n), "r"(barrier)
        : "memory");
}
// The same of what is read once: other data, which are read again and again, keep their place in the cache.
INLINE uint64_t read_once() {
    uint64_t policy;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
}
INLINE void copy_bulk(SharedAddress to, const uint8_t* from, uint32_t n, SharedAddress barrier,
                      uint64_t policy) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
        "[%3], "
        "%4;" ::"r"(to),
        "l"(from), "r"(n), "r"(barrier), "l"(policy)
        : "memory");
}
// Of the first n threads of the block.
INLINE void first_threads_barrier(uint32_t n) {
    asm volatile("bar.sync 1, %0;" ::"r"(n) : "memory");
}
// What the thread, and those it has met at a barrier, wrote before is there for who sees the sum.
INLINE void add_released(uint32_t* to, uint32_t n) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(to), "r"(n) : "memory");
}
INLINE uint32_t load_acquired(const uint32_t* from) {
    uint32_t n = 0;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(n) : "l"(from) : "memory");
    return n;
}
INLINE void wait_until(const uint32_t* counter, uint32_t n) {
    while (load_acquired(counter) < n) {
    }
}

#endif

struct RingPlace {
    uint32_t slot, parity;
    INLINE void advance(uint32_t n_slots) {
        if (++slot == n_slots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

}  // namespace smelt::cuda
