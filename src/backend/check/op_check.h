// One random record on a device and on the reference, op after op: what `smelt doctor --check` and the fuzzer
// share.
#pragma once

#include <string>

#include "backend/check/random_record.h"

namespace smelt {

// Before each op the reference gets what the device's memory held, so that every op is judged by its own
// inputs, and memory that the op does not write must stay as it was. Fused ops are those that the device asks
// for. Returns "" or what differs.
std::string check_random_record(Backend& device, Backend& reference, RandomRecordOptions options,
                                const Choices& choices);

}  // namespace smelt
