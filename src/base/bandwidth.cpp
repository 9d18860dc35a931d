// Sums a buffer; the sum itself is of no interest.
#include "base/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>

#include "base/affinity.h"
#include "base/cpu_info.h"
#include "base/memory_error.h"

namespace smelt {

namespace {

constexpr int n_passes = 3;
constexpr size_t cache_line = 64, lines_ahead = 16;

size_t choose_bytes() {
    const size_t wanted = std::max(size_t{1} << 30, 4 * read_cpu_info().all_l3_bytes);
    const auto free = static_cast<size_t>(read_memory_info().available / 4);
    return std::max(std::min(wanted, free), size_t{64} << 20);
}

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <bool passing>
uint64_t sum_of(const uint64_t* data, size_t n) {
    // Four sums: one alone would wait for its own additions.
    uint64_t a = 0, b = 0, c = 0, d = 0;
    for (size_t i = 0; i + 32 <= n; i += 32) {
        if constexpr (passing) {
            // A prefetch beyond the end is no access.
            for (size_t j = 0; j < 4; ++j) {
                __builtin_prefetch(reinterpret_cast<const char*>(data + i) + (lines_ahead + j) * cache_line,
                                   0, 0);
            }
        }
        for (size_t j = 0; j < 8; ++j) {
            a += data[i + j];
            b += data[i + 8 + j];
            c += data[i + 16 + j];
            d += data[i + 24 + j];
        }
    }
    return a + b + c + d;
}

}  // namespace

// Memory straight from the system, so that its pages can be chosen.
class BandwidthProbe::Buffer {
 public:
    Buffer(size_t n_bytes, bool large) : bytes(n_bytes) {
        void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED) {
            throw MemoryError("memory: expected {:.1f} MiB to measure its speed, the system has none",
                              static_cast<double>(bytes) / 0x1p20);
        }
        data = static_cast<uint64_t*>(p);
#if defined(MADV_HUGEPAGE)
        large_pages = madvise(p, bytes, large ? MADV_HUGEPAGE : MADV_NOHUGEPAGE) == 0 && large;
#else
        (void)large;
#endif
    }
    ~Buffer() {
        munmap(data, bytes);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    uint64_t* data;
    size_t bytes;
    bool large_pages = false;
};

BandwidthProbe::BandwidthProbe(int n_threads)
    : pool_(n_threads), processors_(usable_processors()), members_(static_cast<size_t>(n_threads)) {
    const size_t bytes = choose_bytes();
    // The fastest way shows on a part of the buffer too.
    double best = 0;
    bool best_large = false;
    for (const bool large : {false, true}) {
        allocate(bytes / 4, large);
        if (large && !buffer_->large_pages) break;
        for (const bool passing : {false, true}) {
            const double rate = std::max(pass(passing), pass(passing));
            if (rate <= best) continue;
            best = rate;
            best_large = large;
            passing_ = passing;
        }
    }
    allocate(bytes, best_large);
}

BandwidthProbe::~BandwidthProbe() = default;

std::unique_ptr<PinnedThread> BandwidthProbe::pin(size_t member) const {
    if (processors_.empty()) return nullptr;
    return std::make_unique<PinnedThread>(processors_[member % processors_.size()]);
}

void BandwidthProbe::allocate(size_t bytes, bool large) {
    buffer_.reset();
    buffer_ = std::make_unique<Buffer>(bytes, large);
    // By the thread that will read it: the memory is then near its core.
    pool_.run([this](int member) {
        const auto m = static_cast<size_t>(member);
        const auto pinned = pin(m);
        const size_t share = buffer_->bytes / sizeof(uint64_t) / members_.size();
        std::fill_n(buffer_->data + share * m, share, uint64_t{1});
    });
}

double BandwidthProbe::pass(bool passing) {
    pool_.run([this, passing](int member) {
        const auto m = static_cast<size_t>(member);
        const auto pinned = pin(m);
        const size_t share = buffer_->bytes / sizeof(uint64_t) / members_.size();
        const uint64_t* data = buffer_->data + share * m;
        pool_.barrier();
        members_[m].start = now();
        members_[m].sum = passing ? sum_of<true>(data, share) : sum_of<false>(data, share);
        members_[m].end = now();
    });
    double start = members_[0].start, end = members_[0].end;
    uint64_t sum = 0;
    for (const Member& m : members_) {
        start = std::min(start, m.start);
        end = std::max(end, m.end);
        sum += m.sum;
    }
    // Uses the sums where the compiler cannot know them.
    const auto check = static_cast<double>(sum == 1);
    return static_cast<double>(buffer_->bytes) / (end - start + check);
}

double BandwidthProbe::measure() {
    double best = 0;
    for (int i = 0; i < n_passes; ++i) best = std::max(best, pass(passing_));
    return best;
}

std::string BandwidthProbe::way() const {
    return std::string(buffer_->large_pages ? "large pages" : "the system's pages") +
           (passing_ ? ", loads past the caches" : ", ordinary loads");
}

size_t BandwidthProbe::bytes() const {
    return buffer_->bytes;
}

}  // namespace smelt
