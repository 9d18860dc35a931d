// A table that a signal handler may read: fixed slots of atomics, no locks.
#include "base/truncation.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <mutex>

namespace smelt {

namespace {

struct Mapping {
    std::atomic<uintptr_t> begin = 0;  // 0: the slot is free
    std::atomic<size_t> size = 0;
    std::atomic<bool> damaged = false;
};
// Shards of the largest models; what does not find a slot is mapped all the same, without the guard.
std::array<Mapping, 1024> mappings;
std::mutex registering;
uintptr_t page_size = 4096;

Mapping* find(uintptr_t address) {
    for (Mapping& m : mappings) {
        const uintptr_t begin = m.begin.load();
        if (begin != 0 && address >= begin && address - begin < m.size.load()) return &m;
    }
    return nullptr;
}

void on_bus_error(int, siginfo_t* info, void*) {
    const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
    Mapping* m = find(address);
    void* page = reinterpret_cast<void*>(address & ~(page_size - 1));
    // mmap is no function that a handler is promised, but a plain system call where this runs.
    if (m != nullptr &&
        ::mmap(page, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page) {
        m->damaged = true;
        return;
    }
    struct sigaction fall_back {};
    fall_back.sa_handler = SIG_DFL;
    ::sigaction(SIGBUS, &fall_back, nullptr);  // the access is made again and ends the process
}

}  // namespace

void guard_mapped_files() {
    page_size = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
}

bool is_damaged(const MappedFile& file) {
    const Mapping* m = find(reinterpret_cast<uintptr_t>(file.bytes().data()));
    return m != nullptr && m->damaged;
}

void watch_mapping(const std::byte* data, size_t size) {
    const std::lock_guard lock(registering);
    for (Mapping& m : mappings) {
        if (m.begin != 0) continue;
        m.damaged = false;
        m.size = size;
        m.begin = reinterpret_cast<uintptr_t>(data);
        return;
    }
}

void forget_mapping(const std::byte* data) {
    const std::lock_guard lock(registering);
    for (Mapping& m : mappings) {
        if (m.begin == reinterpret_cast<uintptr_t>(data)) m.begin = 0;
    }
}

}  // namespace smelt
