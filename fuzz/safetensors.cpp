// Any bytes as a safetensors file: entries inside the bytes, or an Error.
#include <cstdlib>

#include "base/error.h"
#include "files/readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    const auto bytes = std::as_bytes(std::span(data, size));
    try {
        for (const SafetensorsEntry& e : read_safetensors(bytes, "fuzz")) {
            const std::byte* end = e.data.data() + e.data.size();
            if (e.data.data() < bytes.data() || end > bytes.data() + size) std::abort();
        }
    } catch (const Error&) {
    }
    return 0;
}
