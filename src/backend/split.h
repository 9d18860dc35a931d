// Several devices as one backend: each weight lies on the device that the map gives its layer to, ops run
// where their weights are, and what crosses a border is copied.
#pragma once

#include <memory>
#include <string_view>

#include "backend/backend.h"

namespace smelt {

// "DEVICE,ENTRY,...": entries are "3=cpu", "0-11=cpu", "12-=cpu" for layers and "experts=cpu" for the experts
// of all layers, whatever layers say. DEVICE has the rest; without it that is "auto". Throws Error naming the
// entry that is wrong; one that fits no weight of the model is named when memory is first asked for.
std::unique_ptr<Backend> make_split_backend(std::string_view map, const BackendOptions& options);

}  // namespace smelt
