// Turns: the next client behind the last one, in the order of their names.
#include "server/http/long_workers.h"

#include "base/error.h"

namespace smelt {

LongWorkers::LongWorkers(int n) {
    try {
        for (int i = 0; i < n; ++i) threads_.emplace_back([this] { run(); });
    } catch (const std::exception& e) {
        join();
        throw Error("the server cannot start {} threads: {}", n, e.what());
    }
}

void LongWorkers::post(const std::string& client, std::function<void()> work) {
    {
        const std::lock_guard lock(mutex_);
        waiting_[client].push_back(std::move(work));
    }
    changed_.notify_one();
}

void LongWorkers::join() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    changed_.notify_all();
    for (std::thread& t : threads_) t.join();
    threads_.clear();
}

std::function<void()> LongWorkers::next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) return {};
    auto turn = waiting_.upper_bound(last_);
    if (turn == waiting_.end()) turn = waiting_.begin();
    last_ = turn->first;
    std::function<void()> work = std::move(turn->second.front());
    turn->second.pop_front();
    if (turn->second.empty()) waiting_.erase(turn);
    return work;
}

void LongWorkers::run() {
    while (std::function<void()> work = next()) work();
}

}  // namespace smelt
