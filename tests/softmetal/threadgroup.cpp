// The order in which the threads of a threadgroup run: a thread runs until it waits, then the next one of its
// simdgroup, round and round; when all of a simdgroup wait at a barrier, the next simdgroup. So a function of
// the simdgroup costs a switch a thread, and threads that never wait share one stack.
#include "softmetal/threadgroup.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace softmetal {

namespace {
constexpr int not_started = -2, finished = -3;
constexpr uint64_t most_yields = 10'000'000;  // a second's

std::string text(const Dim3& d) {
    return fmt::format("({}, {}, {})", d.x, d.y, d.z);
}
std::string text(Place p) {
    return fmt::format("{}:{}", p.file, p.line);
}
// The i-th position of a box, x fastest.
Dim3 unravel(uint32_t i, const Dim3& box) {
    return {i % box.x, i / box.x % box.y, i / box.x / box.y};
}
}  // namespace

constinit thread_local Simdgroup* simdgroup = nullptr;

ThreadgroupRunner::ThreadgroupRunner()
    : simdgroups_(new Simdgroup[max_threads / simd_width]),
      memory_(new char[max_threadgroup_memory + 16]),
      words_(max_threadgroup_memory / 4),
      fibers_(fiber_entry, this) {}

char* ThreadgroupRunner::memory() const {
    return reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(memory_.get()) + 15) / 16 * 16);
}

ThreadgroupRunner& ThreadgroupRunner::current() {
    // By pointer: a library that is opened at run time has little room for such variables.
    static thread_local const auto runner = std::make_unique<ThreadgroupRunner>();
    return *runner;
}

void ThreadgroupRunner::begin(const Launch& launch) {
    launch_ = &launch;
    shared_.clear();
    memory_used_ = 0;
    for (int i = 0; i < Launch::max_buffers; ++i) {
        const size_t bytes = launch.threadgroup_bytes[i];
        arguments_[i] = {};
        if (bytes == 0) continue;
        arguments_[i] = {memory() + memory_used_, bytes, "threadgroup memory " + std::to_string(i)};
        memory_used_ += (bytes + 15) / 16 * 16;
    }
}

const Range& ThreadgroupRunner::shared(const void* site, const char* name, size_t bytes, size_t alignment) {
    for (const Shared& s : shared_)
        if (s.site == site) return *s.range;
    const size_t step = alignment > 16 ? alignment : 16;
    const size_t offset = (memory_used_ + step - 1) / step * step;
    if (offset + bytes > max_threadgroup_memory)
        reject(std::string("kernel ") + launch_->kernel->name + " needs " + std::to_string(offset + bytes) +
               " bytes of threadgroup memory with " + name + ", of at most " +
               std::to_string(max_threadgroup_memory));
    memory_used_ = offset + bytes;
    std::memset(memory() + offset, 0xff, bytes);
    shared_.push_back(
        {site, offset,
         std::make_unique<Range>(Range{memory() + offset, bytes, std::string("threadgroup array ") + name})});
    return *shared_.back().range;
}

void ThreadgroupRunner::run(const Dim3& position) {
    position_ = position;
    const auto edge = [](uint32_t group, uint32_t size, uint32_t threads) {
        return std::min(size, threads - group * size);
    };
    size_ = {edge(position.x, launch_->per_threadgroup.x, launch_->threads.x),
             edge(position.y, launch_->per_threadgroup.y, launch_->threads.y),
             edge(position.z, launch_->per_threadgroup.z, launch_->threads.z)};
    n_threads_ = static_cast<uint32_t>(size_.count());
    n_simdgroups_ = (n_threads_ + simd_width - 1) / simd_width;
    n_finished_ = n_at_barrier_ = running_ = 0;
    fiber_of_.assign(n_threads_, not_started);
    yielded_at_.assign(n_simdgroups_, {"", 0});
    n_yields_ = 0;
    for (uint32_t i = 0; i < n_simdgroups_; ++i) {
        Simdgroup& s = simdgroups_[i];
        s.runner = this;
        s.memory = memory();
        s.words = words_.data();
        s.first = i * simd_width;
        s.count = std::min(simd_width, n_threads_ - s.first);
        s.n_arrived = s.n_finished = s.n_at_barrier = 0;
        std::ranges::fill(s.arrived_at, ~0u);
    }
    ++n_barriers_;
    // What a threadgroup finds in its memory is undefined: NaN here.
    std::memset(memory(), 0xff, memory_used_);
    fibers_.switch_to(fibers_.take());
    if (error_) {
        fibers_.reset();
        std::rethrow_exception(std::exchange(error_, nullptr));
    }
}

void ThreadgroupRunner::fiber_entry(void* self) {
    static_cast<ThreadgroupRunner*>(self)->run_fiber();
}

// Each round: the thread that is chosen begins here; when it has finished, the next one does or goes on
// elsewhere.
void ThreadgroupRunner::run_fiber() {
    for (;;) {
        const uint32_t thread = running_;
        set_running(thread);
        fiber_of_[thread] = fibers_.current();
        try {
            run_thread(thread);
        } catch (...) {
            error_ = std::current_exception();
        }
        if (error_) {
            fibers_.switch_to(Fibers::main);
            continue;
        }
        fiber_of_[thread] = finished;
        uint32_t next = thread;
        if (simdgroup->n_finished < simdgroup->count)
            next = next_lane();
        else if (!next_simdgroup(next)) {
            fibers_.give_back(fibers_.current());
            fibers_.switch_to(Fibers::main);
            continue;
        }
        running_ = next;
        const int fiber = fiber_of_[next];
        if (fiber == not_started) continue;
        fibers_.give_back(fibers_.current());
        fibers_.switch_to(fiber);
    }
}

void ThreadgroupRunner::run_thread(uint32_t thread) {
    launch_->kernel->run(*launch_, id_of(thread));
    Simdgroup& s = simdgroups_[thread / simd_width];
    if (s.n_arrived > 0)
        reject(where() + " returned while others of its simdgroup wait in " + s.function + " at " +
               text(s.place));
    if (n_at_barrier_ > 0)
        reject(where() + " returned while others wait at the barrier at " + text(barrier_place_));
    ++s.n_finished;
    ++n_finished_;
}

ThreadId ThreadgroupRunner::id_of(uint32_t thread) const {
    ThreadId id;
    const Dim3 p = unravel(thread, size_);
    const Dim3& per = launch_->per_threadgroup;
    id.thread_position_in_threadgroup = p;
    id.threadgroup_position_in_grid = position_;
    id.thread_position_in_grid = {position_.x * per.x + p.x, position_.y * per.y + p.y,
                                  position_.z * per.z + p.z};
    id.threads_per_threadgroup = size_;
    id.dispatch_threads_per_threadgroup = per;
    id.threadgroups_per_grid = launch_->threadgroups;
    id.threads_per_grid = launch_->threads;
    id.thread_index_in_threadgroup = thread;
    id.simdgroup_index_in_threadgroup = thread / simd_width;
    id.thread_index_in_simdgroup = thread % simd_width;
    id.simdgroups_per_threadgroup = n_simdgroups_;
    id.threads_per_simdgroup = simd_width;
    return id;
}

uint32_t ThreadgroupRunner::next_lane() const {
    const Simdgroup& s = simdgroups_[running_ / simd_width];
    uint32_t lane = running_ - s.first;
    do lane = lane + 1 == s.count ? 0 : lane + 1;
    while (fiber_of_[s.first + lane] == finished);
    return s.first + lane;
}

// Has not ended, and does not wait for others of its simdgroup.
bool ThreadgroupRunner::can_run(uint32_t thread) const {
    const Simdgroup& s = simdgroups_[thread / simd_width];
    return fiber_of_[thread] != finished && !s.waits(thread - s.first);
}

bool ThreadgroupRunner::next_simdgroup(uint32_t& thread) const {
    uint32_t i = running_ / simd_width;
    for (uint32_t n = 0; n < n_simdgroups_; ++n) {
        i = i + 1 == n_simdgroups_ ? 0 : i + 1;
        const Simdgroup& s = simdgroups_[i];
        if (s.n_finished == s.count || s.n_at_barrier == s.count) continue;
        thread = s.first;
        while (!can_run(thread)) ++thread;
        return true;
    }
    return false;
}

void ThreadgroupRunner::set_running(uint32_t thread) {
    running_ = thread;
    simdgroup = &simdgroups_[thread / simd_width];
    simdgroup->lane = thread % simd_width;
    renew_stamp();
}

void ThreadgroupRunner::switch_to_thread(uint32_t thread) {
    const uint32_t me = running_;
    running_ = thread;
    const int fiber = fiber_of_[thread];
    fibers_.switch_to(fiber == not_started ? fibers_.take() : fiber);
    set_running(me);
}

void ThreadgroupRunner::run_next_lane() {
    const Simdgroup& s = *simdgroup;
    uint32_t lane = s.lane;
    do lane = lane + 1 == s.count ? 0 : lane + 1;
    while (s.waits(lane));
    switch_to_thread(s.first + lane);
}

void ThreadgroupRunner::report_divergence(const char* function, Place place) {
    const Simdgroup& s = *simdgroup;
    const std::string call = where() + " calls " + function + " at " + text(place);
    if (s.n_finished > 0) reject(call + " after a thread of its simdgroup returned");
    if (s.n_at_barrier > 0)
        reject(call + " while others of its simdgroup wait at the barrier at " + text(barrier_place_));
    reject(call + " while others of its simdgroup call " + s.function + " at " + text(s.place));
}

void ThreadgroupRunner::barrier(Place place) {
    Simdgroup& s = *simdgroup;
    if (n_finished_ > 0)
        reject(where() + " is at the barrier at " + text(place) + " after another thread returned");
    if (s.n_arrived > 0)
        reject(where() + " is at the barrier at " + text(place) + " while others of its simdgroup wait in " +
               s.function + " at " + text(s.place));
    if (n_at_barrier_ == 0)
        barrier_place_ = place;
    else if (!(barrier_place_ == place))
        reject(where() + " is at the barrier at " + text(place) + " while others wait at the barrier at " +
               text(barrier_place_));
    ++s.n_at_barrier;
    if (++n_at_barrier_ == n_threads_) {
        n_at_barrier_ = 0;
        ++n_barriers_;
        for (uint32_t i = 0; i < n_simdgroups_; ++i) simdgroups_[i].n_at_barrier = 0;
        renew_stamp();
        return;
    }
    uint32_t next = running_;
    if (s.n_at_barrier < s.count)
        next = next_lane();
    else
        next_simdgroup(next);
    switch_to_thread(next);
}

// The simdgroup's other threads have their turn first.
void ThreadgroupRunner::yield(Place place) {
    const uint32_t mine = running_ / simd_width, end = simdgroups_[mine].first + simdgroups_[mine].count;
    yielded_at_[mine] = place;
    uint32_t next = running_ + 1;
    while (next < end && !can_run(next)) ++next;
    if (next == end && !next_simdgroup(next)) next = running_;
    if (next == running_ || ++n_yields_ > most_yields) {
        std::string all;
        for (uint32_t i = 0; i < n_simdgroups_; ++i) all += fmt::format(" {}: {};", i, text(yielded_at_[i]));
        reject(where() + " waits for what nobody does; simdgroups waited last at" + all);
    }
    switch_to_thread(next);
}

void ThreadgroupRunner::simdgroup_barrier(Place place) {
    if (!arrive(*simdgroup, "simdgroup_barrier", place)) return;
    ++simdgroup->n_barriers;
    renew_stamp();
}

void ThreadgroupRunner::renew_stamp() {
    simdgroup->stamp = Stamp::make(n_barriers_, simdgroup->n_barriers, running_);
}

void ThreadgroupRunner::report_race(const void* data, bool write, uint64_t earlier, bool earlier_wrote) {
    reject(fmt::format("{} {} byte {} of threadgroup memory, which thread {} {} with no barrier between",
                       where(), write ? "writes" : "reads", static_cast<const char*>(data) - memory(),
                       text(unravel(static_cast<uint32_t>(earlier >> Stamp::thread & 0x3ff), size_)),
                       earlier_wrote ? "wrote" : "read"));
}

std::string ThreadgroupRunner::where() const {
    if (launch_ == nullptr) return "no kernel";
    return std::string("kernel ") + launch_->kernel->name + ", threadgroup " + text(position_) + ", thread " +
           text(unravel(running_, size_)) + ":";
}

// --- What kernels call ---

void report_access(const Range& range, const void* data, size_t bytes, size_t alignment) {
    const std::string where = ThreadgroupRunner::current().where();
    if (range.begin == nullptr)
        reject(where + " access through a null pointer or to an unbound " + range.name);
    const int64_t offset = static_cast<const char*>(data) - range.begin;
    if (reinterpret_cast<uintptr_t>(data) % alignment != 0 && offset >= 0 &&
        static_cast<size_t>(offset) + bytes <= range.size)
        reject(where + " misaligned access to " + range.name + ": " + std::to_string(bytes) +
               " bytes at byte " + std::to_string(offset) + ", whose address is no multiple of " +
               std::to_string(alignment));
    const int64_t index = offset >= 0
                              ? offset / static_cast<int64_t>(bytes)
                              : -((-offset + static_cast<int64_t>(bytes) - 1) / static_cast<int64_t>(bytes));
    reject(where + " " + range.name + " is accessed out of bounds: index " + std::to_string(index) + " of " +
           std::to_string(range.size / bytes) + " elements of " + std::to_string(bytes) + " bytes (byte " +
           std::to_string(offset) + " of " + std::to_string(range.size) + ")");
}

void report_index(const char* what, int64_t index, int64_t size) {
    reject(ThreadgroupRunner::current().where() + " " + what + ": index " + std::to_string(index) +
           ", size " + std::to_string(size));
}

void run_next_lane() {
    simdgroup->runner->run_next_lane();
}
void report_divergence(const char* function, Place place) {
    simdgroup->runner->report_divergence(function, place);
}
void threadgroup_barrier(Place place) {
    simdgroup->runner->barrier(place);
}
void yield(Place place) {
    simdgroup->runner->yield(place);
}
void simdgroup_barrier(Place place) {
    simdgroup->runner->simdgroup_barrier(place);
}
void report_race(const void* data, bool write, uint64_t earlier, bool earlier_wrote) {
    simdgroup->runner->report_race(data, write, earlier, earlier_wrote);
}
const Range& threadgroup_argument_range(int index) {
    return ThreadgroupRunner::current().argument(index);
}
const Range& shared_range(const void* site, const char* name, size_t bytes, size_t alignment) {
    return ThreadgroupRunner::current().shared(site, name, bytes, alignment);
}

}  // namespace softmetal
