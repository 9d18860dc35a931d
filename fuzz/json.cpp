// Any bytes as JSON: a value or an Error.
#include "base/json.h"

#include <cstdint>

#include "base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    try {
        const smelt::Json value = smelt::parse_json({reinterpret_cast<const char*>(data), size}, "fuzz");
        (void)smelt::to_string(value);
    } catch (const smelt::Error&) {
    }
    return 0;
}
