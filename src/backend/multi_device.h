// Several devices as one backend. It loads weights where they belong, has records placed (placement.h), runs
// the phases and moves what crosses a border through the host's memory.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"

namespace smelt {

// "DEVICE,ENTRY,...": entries are "3=cpu", "0-11=cpu", "12-=cpu" for layers and "experts=cpu" for the experts
// of all layers, whatever layers say. DEVICE has the rest; without it that is "auto". Throws Error naming the
// entry that is wrong; one that fits no weight of the model is named when memory is first asked for.
std::unique_ptr<Backend> make_mapped_backend(std::string_view map, const BackendOptions& options);
// The same, each device opened by its name, once.
std::unique_ptr<Backend> make_mapped_backend(
    std::string_view map, const std::function<std::unique_ptr<Backend>(const std::string&)>& open);

// options.tensor_parallel of the same device, which share its threads and every weight that may be cut. Their
// number changes the last bits of results, nothing else does. More partners than a model has heads repeat
// each other's work. Throws Error where KV heads cannot be shared by them when memory is first asked for.
std::unique_ptr<Backend> make_partners(std::string_view device, const BackendOptions& options);
// The same of devices that are there already, all of one kind.
std::unique_ptr<Backend> make_partners(std::vector<std::unique_ptr<Backend>> devices);

}  // namespace smelt
