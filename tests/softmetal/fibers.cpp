// Switches between stacks by Boost.Context; tells the sanitizers about it.
#include "softmetal/fibers.h"

#include <sys/mman.h>

#include <new>

namespace softmetal {

namespace {
constexpr size_t page = fiber_guard;
// Room for the kernels' arrays. Sanitizers' frames are larger.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t stack_bytes = 256 * 1024;
#else
constexpr size_t stack_bytes = 64 * 1024;
#endif
}  // namespace

Fibers::Fibers(Entry entry, void* argument) : entry_(entry), argument_(argument) {}

Fibers::~Fibers() {
    for (const Fiber& f : fibers_) {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(f.stack + page, f.stack_bytes);  // for what is mapped there next
#endif
        ::munmap(f.stack, f.stack_bytes + page);
#if defined(__SANITIZE_THREAD__)
        __tsan_destroy_fiber(f.race_fiber);
#endif
    }
}

void Fibers::begin(boost::context::detail::transfer_t from) {
    Fibers& fibers = *static_cast<Fibers*>(from.data);
    fibers.at(fibers.previous_).context = from.fctx;
    fibers.arrived(nullptr);
    fibers.entry_(fibers.argument_);
    __builtin_unreachable();
}

void Fibers::prepare(int fiber) {
    // Tops of stacks differ in their low bits: at equal ones, all threads' variables would share a few cache
    // sets.
    const size_t shift = static_cast<size_t>(fiber) * 576 % page / 64 * 64;
    Fiber& f = at(fiber);
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f.stack + page, f.stack_bytes);  // of frames that were left behind
#endif
    f.context = boost::context::detail::make_fcontext(f.stack + page + f.stack_bytes - shift,
                                                      f.stack_bytes - shift, &begin);
    f.fake_stack = nullptr;
}

int Fibers::take() {
    if (free_.empty()) {
        // The lowest page stays out of reach: a kernel that needs more stack faults there.
        void* stack = ::mmap(nullptr, stack_bytes + page, PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (stack == MAP_FAILED || ::mprotect(stack, page, PROT_NONE) != 0) throw std::bad_alloc();
        fibers_.push_back({nullptr, static_cast<char*>(stack), stack_bytes});
#if defined(__SANITIZE_THREAD__)
        fibers_.back().race_fiber = __tsan_create_fiber(0);
#endif
        free_.push_back(static_cast<int>(fibers_.size()) - 1);
        prepare(free_.back());
    }
    const int fiber = free_.back();
    free_.pop_back();
    return fiber;
}

void Fibers::reset() {
    free_.clear();
    for (int fiber = static_cast<int>(fibers_.size()) - 1; fiber >= 0; --fiber) {
        prepare(fiber);
        free_.push_back(fiber);
    }
}

}  // namespace softmetal
