// Members go in the order that nothing is called which is gone: models end their engines before the thread
// that hears of it.
#include "triton/served_model.h"

namespace smelt {

PostThread::PostThread() : thread_([this] { run(); }) {}

PostThread::~PostThread() {
    {
        const std::lock_guard lock(mutex_);
        ends_ = true;
    }
    changed_.notify_one();
    thread_.join();
}

void PostThread::post(std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        work_.push_back(std::move(work));
    }
    changed_.notify_one();
}

void PostThread::set_tick(std::function<void()> tick) {
    const std::lock_guard lock(mutex_);
    tick_ = std::move(tick);
}

void PostThread::run() {
    constexpr auto period = std::chrono::milliseconds(50);
    auto next_tick = std::chrono::steady_clock::now() + period;
    std::unique_lock lock(mutex_);
    while (true) {
        changed_.wait_until(lock, next_tick, [&] { return ends_ || !work_.empty(); });
        if (!work_.empty()) {
            const auto work = std::move(work_.front());
            work_.pop_front();
            lock.unlock();
            work();
            lock.lock();
        } else if (ends_) {
            return;
        }
        if (std::chrono::steady_clock::now() < next_tick) continue;
        next_tick = std::chrono::steady_clock::now() + period;
        const auto tick = tick_;
        lock.unlock();
        if (tick) tick();
        lock.lock();
    }
}

TritonServed::TritonServed(const TritonConfig& config, const std::filesystem::path& path)
    : name_(config.name.empty() ? path.filename().string() : config.name),
      models_(ModelSet::Options{.open = config.open}),
      context_{.models = models_} {
    models_.load(ModelSpec{.name = name_, .path = path, .open = config.open});
}

TritonServed::~TritonServed() {
    models_.unload(name_);
}

}  // namespace smelt
