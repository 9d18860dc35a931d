// Sums, for all and for each client.
#include "server/http/memory_account.h"

#include <utility>

namespace smelt {

size_t MemoryAccount::used() const {
    const std::lock_guard lock(mutex_);
    return used_;
}

bool MemoryAccount::freed_much() {
    constexpr size_t much = size_t{16} << 20;
    const std::lock_guard lock(mutex_);
    if (freed_ < much) return false;
    freed_ = 0;
    return true;
}

bool MemoryAccount::take(const std::string& client, size_t n) {
    const std::lock_guard lock(mutex_);
    const auto known = of_client_.find(client);
    const size_t held = known == of_client_.end() ? 0 : known->second;
    if (n > limit_ - used_ || n > limit_ / 2 - held) return false;
    if (n == 0) return true;
    of_client_[client] += n;
    used_ += n;
    return true;
}

void MemoryAccount::give(const std::string& client, size_t n) {
    const std::lock_guard lock(mutex_);
    const auto known = of_client_.find(client);
    used_ -= n;
    freed_ += n;
    known->second -= n;
    if (known->second == 0) of_client_.erase(known);
}

Held MemoryShare::add(size_t n) {
    const std::lock_guard lock(mutex_);
    if (n > account_.limit_ / 2 - n_) return Held::never;
    if (!account_.take(client_, n)) return Held::later;
    n_ += n;
    return Held::yes;
}

Held MemoryShare::resize(size_t n) {
    const std::lock_guard lock(mutex_);
    if (n > account_.limit_ / 2) return Held::never;
    if (n > n_ && !account_.take(client_, n - n_)) return Held::later;
    if (n < n_) account_.give(client_, n_ - n);
    n_ = n;
    return Held::yes;
}

}  // namespace smelt
