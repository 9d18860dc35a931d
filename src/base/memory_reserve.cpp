// One block and a new_handler that frees it.
#include "base/memory_reserve.h"

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef __GLIBC__
#include <malloc.h>
#endif

namespace smelt {

namespace {

// Far more than what a request and its answer hold in small pieces.
constexpr size_t reserve_bytes = size_t{4} << 20;

std::atomic<bool> wanted = false;
std::atomic<void*> reserve = nullptr;

void use_reserve() {
    void* held = reserve.exchange(nullptr);
    if (held == nullptr) throw std::bad_alloc();
    std::free(held);
}

}  // namespace

void hold_memory_reserve() {
    wanted = true;
    renew_memory_reserve();
    std::set_new_handler(use_reserve);
}

bool renew_memory_reserve() {
    if (!wanted || reserve.load() != nullptr) return true;
    void* fresh = std::malloc(reserve_bytes);
    void* none = nullptr;
    // Another thread may have been faster.
    if (fresh != nullptr && !reserve.compare_exchange_strong(none, fresh)) std::free(fresh);
    return fresh != nullptr;
}

void return_free_memory() {
#ifdef __GLIBC__
    malloc_trim(0);
#endif
}

}  // namespace smelt
