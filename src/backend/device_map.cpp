// "cpu,0-11=reference,experts=cpu"
#include "backend/device_map.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/number.h"

namespace smelt {

namespace {

constexpr int64_t no_end = std::numeric_limits<int64_t>::max();

// The number that all of text is; -1: it is none.
int64_t number(std::string_view text) {
    return std::max<int64_t>(-1, parse_integer<int64_t>(text).value_or(-1));
}

DeviceMap::Entry parse_entry(std::string_view text, size_t equals) {
    DeviceMap::Entry entry{std::string(text), std::string(text.substr(equals + 1))};
    const std::string_view what = text.substr(0, equals);
    if (what == "experts") {
        entry.experts = true;
        return entry;
    }
    const size_t dash = what.find('-');
    entry.first_layer = number(what.substr(0, dash));
    entry.last_layer = dash == std::string_view::npos ? entry.first_layer
                       : dash + 1 == what.size()      ? no_end
                                                      : number(what.substr(dash + 1));
    if (entry.first_layer < 0 || entry.last_layer < entry.first_layer) {
        throw Error("device map: {}: expected a layer, FIRST-LAST, FIRST- or experts before the =", text);
    }
    return entry;
}

}  // namespace

DeviceMap parse_device_map(std::string_view text) {
    DeviceMap map;
    bool has_rest = false;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        const std::string_view part = text.substr(at, end - at);
        at = end + 1;
        const size_t equals = part.find('=');
        if (part.empty() || part.back() == '=') {
            throw Error("device map: \"{}\": expected DEVICE, LAYERS=DEVICE or experts=DEVICE", part);
        }
        if (equals == std::string_view::npos) {
            if (has_rest) throw Error("device map: {}: the rest has the device {} already", part, map.rest);
            map.rest = part;
            has_rest = true;
            continue;
        }
        const DeviceMap::Entry entry = parse_entry(part, equals);
        for (const DeviceMap::Entry& other : map.entries) {
            if (entry.experts == other.experts && entry.first_layer <= other.last_layer &&
                other.first_layer <= entry.last_layer) {
                throw Error("device map: {} and {} give the same weights to two devices", other.text,
                            entry.text);
            }
        }
        map.entries.push_back(entry);
    }
    return map;
}

}  // namespace smelt
