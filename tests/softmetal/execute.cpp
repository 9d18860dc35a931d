// The threads of the host that run threadgroups.
#include "softmetal/execute.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <thread>

#include "softmetal/softmetal.h"
#include "softmetal/threadgroup.h"

namespace softmetal {

namespace {

// Workers that take threadgroups by number until none is left.
class Workers {
 public:
    explicit Workers(int n) {
        for (int i = 0; i < n; ++i) threads_.emplace_back([this] { work(); });
    }
    ~Workers() {
        {
            const std::lock_guard lock(mutex_);
            stop_ = true;
        }
        wake_.notify_all();
        for (std::thread& t : threads_) t.join();
    }

    void run(const Launch& launch) {
        const uint64_t n = launch.threadgroups.count();
        const bool shared = !threads_.empty() && n > 1 && n * launch.per_threadgroup.count() >= 512;
        next_ = 0;
        error_ = nullptr;
        if (shared) {
            {
                const std::lock_guard lock(mutex_);
                launch_ = &launch;
                ++round_;
            }
            wake_.notify_all();
        }
        take_threadgroups(launch, n);
        if (shared) {
            // Only for those who came: on a busy machine a worker may wake long after the work is done.
            std::unique_lock lock(mutex_);
            launch_ = nullptr;
            done_.wait(lock, [this] { return n_working_ == 0; });
        }
        if (error_) std::rethrow_exception(error_);
    }

 private:
    void work() {
        uint64_t seen = 0;
        std::unique_lock lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return stop_ || round_ != seen; });
            if (stop_) return;
            seen = round_;
            if (launch_ == nullptr) continue;
            const Launch& launch = *launch_;
            ++n_working_;
            lock.unlock();
            take_threadgroups(launch, launch.threadgroups.count());
            lock.lock();
            if (--n_working_ == 0) done_.notify_one();
        }
    }

    void take_threadgroups(const Launch& launch, uint64_t n) {
        ThreadgroupRunner& runner = ThreadgroupRunner::current();
        bool begun = false;
        for (;;) {
            const uint64_t i = next_.fetch_add(1);
            if (i >= n) return;
            if (!begun) runner.begin(launch);
            begun = true;
            const Dim3& g = launch.threadgroups;
            try {
                runner.run({static_cast<uint32_t>(i % g.x), static_cast<uint32_t>(i / g.x % g.y),
                            static_cast<uint32_t>(i / g.x / g.y)});
            } catch (...) {
                const std::lock_guard lock(mutex_);
                if (!error_) error_ = std::current_exception();
                next_ = n;
            }
        }
    }

    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable wake_, done_;
    const Launch* launch_ = nullptr;
    uint64_t round_ = 0;
    int n_working_ = 0;
    bool stop_ = false;
    std::atomic<uint64_t> next_ = 0;
    std::exception_ptr error_;
};

void set(const FunctionConstant& c, uint32_t bits) {
    switch (c.type) {
        case DataType::Bool:
            *static_cast<bool*>(c.value) = (bits & 0xff) != 0;
            break;
        case DataType::Char:
        case DataType::UChar:
            std::memcpy(c.value, &bits, 1);
            break;
        case DataType::Short:
        case DataType::UShort:
        case DataType::Half:
            std::memcpy(c.value, &bits, 2);
            break;
        default:
            std::memcpy(c.value, &bits, 4);
    }
    *c.is_defined = true;
}

}  // namespace

void execute(const Launch& launch, const Registration& file, const Constants& constants) {
    static std::mutex one_at_a_time;
    const std::lock_guard lock(one_at_a_time);
    static Workers workers([] {
        const int n = settings().n_threads ? settings().n_threads
                                           : static_cast<int>(std::thread::hardware_concurrency());
        return std::min(n, 16) - 1;
    }());
    for (const FunctionConstant& c : file.constants) {
        *c.is_defined = false;
        set(c, 0);
        *c.is_defined = false;
    }
    for (const auto& [constant, bits] : constants) set(*constant, bits);
    check_bound(launch);
    workers.run(launch);
}

}  // namespace softmetal
