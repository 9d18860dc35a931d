// Stacks to run the threads of a threadgroup on, one after the other, on one thread of the host.
#pragma once

#include <boost/context/detail/fcontext.hpp>
#include <cstddef>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace softmetal {

constexpr size_t fiber_guard = 4096;  // bytes below each stack that fault

class Fibers {
 public:
    // Runs on a fiber until it switches to main; never returns.
    using Entry = void (*)(void* argument);
    static constexpr int main = -1;

    Fibers(Entry entry, void* argument);
    ~Fibers();
    Fibers(const Fibers&) = delete;
    Fibers& operator=(const Fibers&) = delete;

    // A fiber that is not in use: at its entry, or where it last switched away.
    int take();
    void give_back(int fiber) { free_.push_back(fiber); }
    void switch_to(int fiber);  // or main
    int current() const { return current_; }
    // All fibers begin anew; from main.
    void reset();

 private:
    using Context = boost::context::detail::fcontext_t;
    struct Fiber {
        Context context = nullptr;
        char* stack = nullptr;  // lowest address
        size_t stack_bytes = 0;
        void* fake_stack = nullptr;  // AddressSanitizer's
        void* race_fiber = nullptr;  // ThreadSanitizer's
    };
    static void begin(boost::context::detail::transfer_t from);
    void prepare(int fiber);
    void arrived(void* fake_stack);
    Fiber& at(int fiber) { return fiber == main ? main_ : fibers_[static_cast<size_t>(fiber)]; }

    Entry entry_;
    void* argument_;
    Fiber main_;
    std::vector<Fiber> fibers_;
    std::vector<int> free_;
    int current_ = main, previous_ = main;
};

inline void Fibers::switch_to(int fiber) {
    const int me = previous_ = current_;
    Fiber& to = at(fiber);
    current_ = fiber;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&at(me).fake_stack, to.stack ? to.stack + fiber_guard : nullptr,
                                   to.stack_bytes);
#endif
#if defined(__SANITIZE_THREAD__)
    if (main_.race_fiber == nullptr) main_.race_fiber = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(to.race_fiber, 0);
#endif
    const auto back = boost::context::detail::jump_fcontext(to.context, this);
    at(previous_).context = back.fctx;
    arrived(at(me).fake_stack);  // not a reference: others may have added fibers meanwhile
}

inline void Fibers::arrived([[maybe_unused]] void* fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
    const void* bottom = nullptr;
    size_t size = 0;
    __sanitizer_finish_switch_fiber(fake_stack, &bottom, &size);
    if (previous_ == main) {  // whose stack is known from here
        main_.stack = static_cast<char*>(const_cast<void*>(bottom)) - fiber_guard;
        main_.stack_bytes = size;
    }
#endif
}

}  // namespace softmetal
