// Preloaded: the wall clock is an hour ahead in every second second. The monotonic clock is left alone.
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

namespace {

time_t jump(time_t seconds) {
    return seconds % 2 == 0 ? seconds + 3600 : seconds - 3600;
}

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, struct timespec* t) noexcept {
    static const auto real =
        reinterpret_cast<int (*)(clockid_t, struct timespec*)>(dlsym(RTLD_NEXT, "clock_gettime"));
    const int result = real(clock, t);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) t->tv_sec = jump(t->tv_sec);
    return result;
}

int gettimeofday(struct timeval* t, void*) noexcept {
    struct timespec now {};
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t* out) noexcept {
    struct timespec now {};
    clock_gettime(CLOCK_REALTIME, &now);
    if (out != nullptr) *out = now.tv_sec;
    return now.tv_sec;
}
}
