// What a compiled kernel and the software device know of each other: registration, bound memory, and the
// thread that runs. Kernels see no more of the device than this.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

namespace softmetal {

// What real Metal would reject, or leave undefined.
struct Violation : std::logic_error {
    using std::logic_error::logic_error;
};
[[noreturn]] void reject(const std::string& what);

enum class DataType { Bool, Char, UChar, Short, UShort, Int, UInt, Half, Float };

// A piece of memory that a kernel may touch.
struct Range {
    char* begin = nullptr;
    size_t size = 0;
    std::string name = {};  // for messages: "buffer 2 (weights)"
};

struct Dim3 {
    uint32_t x = 1, y = 1, z = 1;
    uint64_t count() const { return uint64_t{x} * y * z; }
};

// The values of a thread's attributes, named as these.
struct ThreadId {
    Dim3 thread_position_in_grid, threadgroup_position_in_grid, thread_position_in_threadgroup;
    Dim3 threads_per_threadgroup, threadgroups_per_grid, threads_per_grid, dispatch_threads_per_threadgroup;
    uint32_t thread_index_in_threadgroup = 0, simdgroup_index_in_threadgroup = 0,
             thread_index_in_simdgroup = 0;
    uint32_t simdgroups_per_threadgroup = 0, threads_per_simdgroup = 0;
};

struct Kernel;

// One dispatch.
struct Launch {
    static constexpr int max_buffers = 31;
    const Kernel* kernel = nullptr;
    Range buffers[max_buffers];                   // size 0: unbound
    size_t threadgroup_bytes[max_buffers] = {};   // of arguments
    Dim3 threads, per_threadgroup, threadgroups;  // threads: of the grid
};

// An argument that has to be bound.
struct Slot {
    enum Kind { pointer, reference, threadgroup } kind;
    int index;
    const char* name;
    const bool* condition;  // a function constant; null: always
};

struct Kernel {
    const char* name;
    void (*run)(const Launch&, const ThreadId&);  // one thread
    std::vector<Slot> slots;
    const void* function = nullptr;  // on a GPU instead of run
};

struct FunctionConstant {
    const char* name;
    int index;
    DataType type;
    void* value;
    bool* is_defined;
};

// The kernels of a .metal file; made before main().
struct Registration {
    const char* file;
    std::vector<Kernel> kernels;
    std::vector<FunctionConstant> constants;
    Registration(const char* file, std::vector<Kernel> kernels, std::vector<FunctionConstant> constants);
};

// --- Called by kernels, in the thread of a threadgroup that runs ---

// [data, data + bytes) is not inside the range, or not aligned.
[[noreturn]] void report_access(const Range& range, const void* data, size_t bytes, size_t alignment);
[[noreturn]] void report_index(const char* what, int64_t index, int64_t size);

// A place in a kernel's text: collective operations meet at one.
struct Place {
    const char* file;
    int line;
    bool operator==(const Place& other) const {
        return line == other.line && (file == other.file || std::strcmp(file, other.file) == 0);
    }
};

// Who used a word of threadgroup memory last, and when: stamps, see Stamp.
struct Word {
    uint64_t write = 0, reads[2] = {};  // the last read, and the last by another thread
};
// Barriers of the threadgroup before a use, those of the simdgroup alone, the thread, and the byte of the
// word for types that are narrower.
struct Stamp {
    static constexpr int barriers = 32, simdgroup_barriers = 16, simdgroup = 7, thread = 2;  // lowest bits
    static constexpr uint64_t make(uint32_t n_barriers, uint32_t n_simdgroup_barriers,
                                   uint32_t thread_index) {
        return uint64_t{n_barriers} << barriers |
               uint64_t{n_simdgroup_barriers & 0xffff} << simdgroup_barriers |
               uint64_t{thread_index} << thread;
    }
    // Two uses, one of them a write, with nothing to order them.
    static bool race(uint64_t earlier, uint64_t now) {
        const uint64_t change = earlier ^ now;
        if (change >> barriers != 0) return false;
        if ((change & 3) != 0 || (change >> thread & 0x3ff) == 0)
            return false;  // another byte, the same thread
        const bool same_simdgroup = (change >> simdgroup & 0x1f) == 0;
        return !(same_simdgroup && (change >> simdgroup_barriers & 0xffff) != 0);
    }
};

// The threads of a simdgroup, as its collective functions see them. Values of a call lie in slots; the
// fastest thread is one call ahead of the slowest at most, so that there are two sets of them.
constexpr uint32_t simd_width = 32;
constexpr size_t slot_bytes = 32;
struct Simdgroup {
    uint32_t lane = 0, count = 0;  // of the thread that runs; of all
    uint32_t n_arrived = 0;        // at the call that is under way
    uint32_t n_calls = 0;
    uint32_t arrived_at[simd_width] = {};  // of each thread, the number of the call where it arrived last
    bool waits(uint32_t thread) const { return n_arrived > 0 && arrived_at[thread] == n_calls; }
    const char* function = nullptr;  // that is called ...
    Place place{};                   // ... and where
    uint32_t n_finished = 0, n_at_barrier = 0;
    uint32_t n_barriers = 0;  // of the simdgroup alone
    uint32_t first = 0;       // thread
    class ThreadgroupRunner* runner = nullptr;
    uint64_t stamp = 0;            // of a use by the thread that runs
    const char* memory = nullptr;  // of the threadgroup
    Word* words = nullptr;
    alignas(64) char slots[2][simd_width * slot_bytes];
    alignas(64) char results[2][2 * simd_width * slot_bytes];
};
// Of the thread that runs.
extern constinit thread_local Simdgroup* simdgroup __attribute__((tls_model("initial-exec")));

// All threads of the simdgroup arrive here; true in the last one, which runs on at once. The others go on
// after it has arrived somewhere else.
[[noreturn]] void report_divergence(const char* function, Place place);
void run_next_lane();
inline bool arrive(Simdgroup& s, const char* function, Place place) {
    if (s.n_arrived == 0) {
        if (s.n_finished + s.n_at_barrier != 0) [[unlikely]]
            report_divergence(function, place);
        s.function = function;
        s.place = place;
    } else if (s.place.line != place.line || s.function != function) [[unlikely]] {
        report_divergence(function, place);
    }
    if (++s.n_arrived == s.count) {
        s.n_arrived = 0;
        ++s.n_calls;
        return true;
    }
    s.arrived_at[s.lane] = s.n_calls;
    run_next_lane();
    return false;
}

void threadgroup_barrier(Place place);
void simdgroup_barrier(Place place);
// The thread looks again after others have run.
void yield(Place place);

// A lane's two elements of three matrices, which lie at (row, column) and behind it; and a * b + c of all 32.
struct MatrixOperands {
    float a[2], b[2], c[2];
    int row, column;
};
struct MatrixProduct {
    alignas(32) float at[8][8];
};
void multiply_accumulate(const MatrixOperands* lanes, MatrixProduct& result);

// Reads or writes threadgroup memory: an error when another thread of the threadgroup wrote there, or a write
// when another thread read there, with no barrier between.
[[noreturn]] void report_race(const void* data, bool write, uint64_t earlier, bool earlier_wrote);
inline void touch_threadgroup_memory(const void* data, size_t bytes, bool write) {
    const Simdgroup& s = *simdgroup;
    const auto offset = static_cast<size_t>(static_cast<const char*>(data) - s.memory);
    const uint64_t now = s.stamp | (offset & 3);
    for (Word *w = s.words + offset / 4, *end = s.words + (offset + bytes + 3) / 4; w != end; ++w) {
        if (Stamp::race(w->write, now)) [[unlikely]]
            report_race(data, write, w->write, true);
        if (write) {
            for (const uint64_t read : w->reads)
                if (Stamp::race(read, now)) [[unlikely]]
                    report_race(data, write, read, false);
            w->write = now;
        } else {
            if (((w->reads[0] ^ now) >> Stamp::thread & 0x3ff) != 0) w->reads[1] = w->reads[0];
            w->reads[0] = now;
        }
    }
}

// Memory of the threadgroup: an argument, or a variable known by the address of its site.
const Range& threadgroup_argument_range(int index);
const Range& shared_range(const void* site, const char* name, size_t bytes, size_t alignment);

}  // namespace softmetal
