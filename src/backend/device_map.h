// Which layers and experts are on which device, parsed from a text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct DeviceMap {
    struct Entry {
        std::string text;  // for messages
        std::string device;
        int64_t first_layer = 0, last_layer = 0;
        bool experts = false;  // instead of layers
    };
    std::string rest = "auto";  // the device of what no entry names
    std::vector<Entry> entries;
};

// Throws Error naming the entry that is wrong.
DeviceMap parse_device_map(std::string_view text);

}  // namespace smelt
