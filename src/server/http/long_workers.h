// Threads for work that takes long: forms that are compiled, long texts. Apart from the other workers, so
// that what is soon done never waits for it; clients come by turns, so that none waits for all of another's.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace smelt {

class LongWorkers {
 public:
    explicit LongWorkers(int n);  // throws Error when the system has no thread for it
    ~LongWorkers() { join(); }
    LongWorkers(const LongWorkers&) = delete;
    LongWorkers& operator=(const LongWorkers&) = delete;

    // `client`: who asks. From any thread; `work` must not throw.
    void post(const std::string& client, std::function<void()> work);
    void join();  // when what they were given is done

 private:
    void run();
    std::function<void()> next();  // empty: the end

    std::mutex mutex_;
    std::condition_variable changed_;
    std::map<std::string, std::deque<std::function<void()>>> waiting_;  // never empty ones
    std::string last_;                                                  // whose turn it was
    bool ending_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace smelt
