// One model of a Triton server: opened as its configuration says, on the engine that `smelt serve` has. Knows
// nothing of Triton's requests.
#pragma once

#include <condition_variable>
#include <deque>
#include <thread>

#include "server/dialects/kserve_task.h"
#include "triton/model_config.h"

namespace smelt {

// Runs what is posted, in order, and `tick` every 50 ms while somebody wants it.
class PostThread {
 public:
    PostThread();
    ~PostThread();  // what was posted is run first

    void post(std::function<void()> work);
    void set_tick(std::function<void()> tick);  // before the first post()

 private:
    void run();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<std::function<void()>> work_;
    std::function<void()> tick_;
    bool ends_ = false;
    std::thread thread_;
};

class TritonServed {
 public:
    // Throws Error.
    TritonServed(const TritonConfig& config, const std::filesystem::path& path);
    ~TritonServed();

    ServerContext& server() { return context_; }
    PostThread& thread() { return thread_; }
    const std::string& name() const { return name_; }

 private:
    std::string name_;
    PostThread thread_;
    ModelSet models_;
    ServerContext context_;
};

}  // namespace smelt
