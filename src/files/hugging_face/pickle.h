// A pickle as Python's protocol 2 writes it: read as a table of values, never executed. Calls and persistent
// ids are values as well, for the caller to make sense of; a global that the caller does not know is an
// Error.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/byte_reader.h"

namespace smelt {

struct PickleValue {
    enum class Kind { none, boolean, integer, real, text, tuple, list, dict, global, call, persistent };
    Kind kind = Kind::none;
    int64_t integer = 0;         // booleans too
    std::string_view text = {};  // where it lies in the file; of a global "module\nname"
    // Places in the table, which may be shared and may form circles. dict: keys and values by turns; call:
    // the function and the tuple of its arguments; persistent: the id.
    std::vector<uint32_t> items = {};
};

struct Pickle {
    std::vector<PickleValue> values;
    uint32_t root = 0;
};

// Reads from `in` to the end of one pickle. collections.OrderedDict gives a dict.
Pickle read_pickle(ByteReader& in, bool (*is_known_global)(std::string_view module_and_name));

}  // namespace smelt
