// Any bytes as a file of torch.save, in either layout: entries inside the bytes, or an Error. The same for a
// pickle by itself.
#include <cstdlib>

#include "base/error.h"
#include "files/hugging_face/pickle.h"
#include "files/readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    const auto bytes = std::as_bytes(std::span(data, size));
    try {
        for (const SafetensorsEntry& e : read_torch_bin(bytes, "fuzz")) {
            const std::byte* end = e.data.data() + e.data.size();
            if (!e.data.empty() && (e.data.data() < bytes.data() || end > bytes.data() + size)) std::abort();
        }
    } catch (const Error&) {
    }
    try {
        ByteReader in(bytes, "fuzz");
        const Pickle pickle = read_pickle(in, [](std::string_view) { return true; });
        for (const PickleValue& v : pickle.values) {
            for (const uint32_t i : v.items) {
                if (i >= pickle.values.size()) std::abort();
            }
        }
    } catch (const Error&) {
    }
    return 0;
}
