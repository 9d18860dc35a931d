// The steps that are under way on the device, which runs them in their order.
#pragma once

#include <Metal/Metal.hpp>
#include <array>
#include <cstddef>
#include <string>

namespace smelt::metal {

constexpr int max_steps = 2;

class RunningSteps {
 public:
    // Throws Error when the device is lost.
    void check() const;
    int n() const { return n_; }
    // Commits it as one step more.
    void start(MTL::CommandBuffer& commands);
    // Commits it and waits for its end, and for that of all before. Throws as finish().
    void run(MTL::CommandBuffer& commands);
    void wait();  // for all
    // Waits for the first. A command buffer that fails leaves the device lost: this and all that follow throw
    // Error.
    void finish();

 private:
    void look_at(MTL::CommandBuffer& commands);

    std::array<NS::SharedPtr<MTL::CommandBuffer>, max_steps> steps_;  // the first n_, in order
    int n_ = 0;
    std::string lost_;  // why; empty while the device works
};

}  // namespace smelt::metal
