// The step that is under way on the device, if there is one.
#pragma once

#include <Metal/Metal.hpp>
#include <string>

namespace smelt::metal {

class RunningStep {
 public:
    // Throws Error when the device is lost.
    void check() const;
    // Commits them.
    void start(MTL::CommandBuffer& commands);
    void wait();
    // Waits. A command buffer that fails leaves the device lost: this and all that follow throw Error.
    void finish();

 private:
    NS::SharedPtr<MTL::CommandBuffer> commands_;
    std::string lost_;  // why; empty while the device works
};

}  // namespace smelt::metal
