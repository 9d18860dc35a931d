// Signals of a server, on a thread of their own: neither a worker that computes nor a busy I/O thread keeps
// the process from ending.
#pragma once

#include <thread>

#include "server/http/connections.h"

namespace smelt {

// SIGINT, SIGTERM and SIGHUP: the first drains, the second cuts what is being answered and ends the process
// after a farewell, the third at once. A drain that does not end in its time ends the process too. SIGPIPE is
// ignored: a reader of the log that has gone is no reason to end. One at a time.
class Signals {
 public:
    explicit Signals(ServerCore& core);
    ~Signals();
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

 private:
    void run();

    ServerCore& core_;
    std::thread thread_;
};

}  // namespace smelt
