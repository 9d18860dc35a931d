// What requests hold in memory: bodies and messages, what is made of them, answers that wait for their
// clients. One account for all, of which a client may have half. Knows numbers alone.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <string>

#include "server/http/http.h"

namespace smelt {

class MemoryAccount {
 public:
    explicit MemoryAccount(size_t limit) : limit_(limit) {}
    MemoryAccount(const MemoryAccount&) = delete;
    MemoryAccount& operator=(const MemoryAccount&) = delete;

    size_t used() const;
    // Whether so much came back since the last call that the system should have it.
    bool freed_much();

 private:
    friend class MemoryShare;
    bool take(const std::string& client, size_t n);
    void give(const std::string& client, size_t n);

    const size_t limit_;
    mutable std::mutex mutex_;
    size_t used_ = 0, freed_ = 0;
    std::map<std::string, size_t> of_client_;  // never 0
};

// What one request or message holds, for as long as it lives. From any thread.
class MemoryShare {
 public:
    MemoryShare(MemoryAccount& account, std::string client) : account_(account), client_(std::move(client)) {}
    ~MemoryShare() { resize(0); }
    MemoryShare(const MemoryShare&) = delete;
    MemoryShare& operator=(const MemoryShare&) = delete;

    // Unless yes, nothing has changed.
    Held add(size_t n);
    Held resize(size_t n);
    const std::string& client() const { return client_; }

 private:
    MemoryAccount& account_;
    const std::string client_;
    std::mutex mutex_;
    size_t n_ = 0;
};

}  // namespace smelt
