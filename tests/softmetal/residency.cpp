// The software Metal device: residency sets. Nothing becomes resident; who would be is known.
#include <algorithm>
#include <mutex>

#include "softmetal/softmetal.h"

namespace softmetal {

namespace {
std::mutex queued_mutex;
std::vector<MTL::ResidencySet*> queued;  // of all queues, retained
}  // namespace

size_t resident_bytes() {
    const std::lock_guard lock(queued_mutex);
    size_t n = 0;
    for (const MTL::ResidencySet* set : queued) n += set->allocatedSize();
    return n;
}

}  // namespace softmetal

namespace MTL {

using softmetal::reject;

NS::UInteger Allocation::allocatedSize() const {
    alive("Allocation::allocatedSize");
    return static_cast<const Buffer*>(this)->length_;
}

ResidencySet* Device::newResidencySet(const ResidencySetDescriptor* descriptor, NS::Error**) {
    alive("Device::newResidencySet");
    if (softmetal::settings().macos < 15) reject("newResidencySet: macOS 14 has none");
    if (descriptor == nullptr) reject("newResidencySet: no descriptor");
    return new ResidencySet();
}

void ResidencySet::addAllocation(const Allocation* allocation) {
    alive("ResidencySet::addAllocation");
    if (containsAllocation(allocation)) return;
    pending_.push_back(const_cast<Allocation*>(allocation)->retain());
}
void ResidencySet::removeAllocation(const Allocation* allocation) {
    alive("ResidencySet::removeAllocation");
    if (std::erase(pending_, allocation) == 0) reject("ResidencySet::removeAllocation: it is not in the set");
    const_cast<Allocation*>(allocation)->release();
}
bool ResidencySet::containsAllocation(const Allocation* allocation) {
    return std::ranges::find(pending_, allocation) != pending_.end();
}
uint64_t ResidencySet::allocatedSize() const {
    uint64_t n = 0;
    for (const Allocation* a : committed_) n += a->allocatedSize();
    return n;
}
void ResidencySet::commit() {
    alive("ResidencySet::commit");
    for (Allocation* a : pending_) a->retain();
    for (Allocation* a : committed_) a->release();
    committed_ = pending_;
}
void ResidencySet::requestResidency() {
    alive("ResidencySet::requestResidency");
}
void ResidencySet::dispose() {
    for (Allocation* a : pending_) a->release();
    for (Allocation* a : committed_) a->release();
}

void CommandQueue::addResidencySet(const ResidencySet* set) {
    alive("CommandQueue::addResidencySet");
    const std::lock_guard lock(softmetal::queued_mutex);
    softmetal::queued.push_back(const_cast<ResidencySet*>(set)->retain());
}
void CommandQueue::removeResidencySet(const ResidencySet* set) {
    alive("CommandQueue::removeResidencySet");
    const std::lock_guard lock(softmetal::queued_mutex);
    if (std::erase(softmetal::queued, set) == 0) reject("removeResidencySet: it is not of this queue");
    const_cast<ResidencySet*>(set)->release();
}

}  // namespace MTL
