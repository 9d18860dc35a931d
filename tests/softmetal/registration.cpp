// The list of compiled kernels, and what each needs bound.
#include "softmetal/execute.h"

namespace softmetal {

namespace {
std::vector<const Registration*>& mutable_registrations() {
    static std::vector<const Registration*> list;
    return list;
}
}  // namespace

Registration::Registration(const char* name, std::vector<Kernel> all, std::vector<FunctionConstant> values)
    : file(name), kernels(std::move(all)), constants(std::move(values)) {
    mutable_registrations().push_back(this);
}

const std::vector<const Registration*>& registrations() {
    return mutable_registrations();
}

void check_bound(const Launch& launch) {
    for (const Slot& slot : launch.kernel->slots) {
        if (slot.condition != nullptr && !*slot.condition) continue;
        const bool threadgroup = slot.kind == Slot::threadgroup;
        if ((threadgroup ? launch.threadgroup_bytes[slot.index] : launch.buffers[slot.index].size) != 0)
            continue;
        reject(std::string("kernel ") + launch.kernel->name + ": nothing is bound to " +
               (threadgroup ? "threadgroup(" : "buffer(") + std::to_string(slot.index) + "), " + slot.name);
    }
}

void reject(const std::string& what) {
    throw Violation("Metal: " + what);
}

}  // namespace softmetal
