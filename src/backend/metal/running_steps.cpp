// Commits, waits, and looks at how they ended.
#include "backend/metal/running_steps.h"

#include <algorithm>

#include "base/error.h"

namespace smelt::metal {

namespace {

// What Metal makes of errors is released with it.
NS::SharedPtr<NS::AutoreleasePool> make_pool() {
    return NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
}

}  // namespace

void RunningSteps::check() const {
    if (!lost_.empty()) throw Error("device metal: lost: {}", lost_);
}

void RunningSteps::start(MTL::CommandBuffer& commands) {
    CHECK(n_ < max_steps, "{} steps are under way", n_);
    steps_[static_cast<size_t>(n_++)] = NS::RetainPtr(&commands);
    commands.commit();
}

void RunningSteps::run(MTL::CommandBuffer& commands) {
    const auto pool = make_pool();
    commands.commit();
    look_at(commands);
    check();
}

void RunningSteps::wait() {
    if (n_ == 0) return;
    const auto pool = make_pool();
    steps_[static_cast<size_t>(n_ - 1)]->waitUntilCompleted();
}

void RunningSteps::finish() {
    CHECK(n_ > 0, "no step is under way");
    const auto pool = make_pool();
    const auto first = std::move(steps_[0]);
    std::move(steps_.begin() + 1, steps_.begin() + n_, steps_.begin());
    --n_;
    look_at(*first.get());
    check();
}

void RunningSteps::look_at(MTL::CommandBuffer& commands) {
    commands.waitUntilCompleted();
    if (commands.status() == MTL::CommandBufferStatusCompleted || !lost_.empty()) return;
    const NS::Error* error = commands.error();
    lost_ = error == nullptr ? "a command buffer failed" : error->localizedDescription()->utf8String();
}

}  // namespace smelt::metal
