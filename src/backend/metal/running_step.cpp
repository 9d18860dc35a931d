// Commits, waits, and looks at how it ended.
#include "backend/metal/running_step.h"

#include "base/error.h"

namespace smelt::metal {

namespace {

// What Metal makes of errors is released with it.
NS::SharedPtr<NS::AutoreleasePool> make_pool() {
    return NS::TransferPtr(NS::AutoreleasePool::alloc()->init());
}

}  // namespace

void RunningStep::check() const {
    if (!lost_.empty()) throw Error("device metal: lost: {}", lost_);
}

void RunningStep::start(MTL::CommandBuffer& commands) {
    commands_ = NS::RetainPtr(&commands);
    commands.commit();
}

void RunningStep::wait() {
    if (!commands_) return;
    const auto pool = make_pool();
    commands_->waitUntilCompleted();
}

void RunningStep::finish() {
    const auto pool = make_pool();
    wait();
    if (commands_ && commands_->status() != MTL::CommandBufferStatusCompleted) {
        const NS::Error* error = commands_->error();
        lost_ = error == nullptr ? "a command buffer failed" : error->localizedDescription()->utf8String();
    }
    commands_ = {};
    check();
}

}  // namespace smelt::metal
