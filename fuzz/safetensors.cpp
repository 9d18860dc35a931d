// Any bytes as a safetensors file: entries inside the bytes, or an Error. The same for weights of several
// tensors, in each way that checkpoints are quantized.
#include <cstdlib>

#include "base/error.h"
#include "files/packed/packed_weights.h"

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
    using Method = QuantScheme::Method;
    for (const QuantScheme& scheme :
         {QuantScheme{.method = Method::gptq},
          QuantScheme{.method = Method::gptq, .bits = 3, .group_size = 32},
          QuantScheme{.method = Method::gptq, .bits = 8},
          QuantScheme{.method = Method::awq, .group_size = 64}, QuantScheme{.method = Method::nvfp4}}) {
        try {
            ModelFile model;
            PackedWeights packed(scheme, Weights::ready);
            for (const SafetensorsEntry& e : read_safetensors(bytes, "fuzz")) packed.take(e, "fuzz");
            for (const TensorView& t : packed.join(model)) {
                std::vector<float> row(static_cast<size_t>(t.row_len()));
                if (t.n_rows() > 0) decode_row(t.row(t.n_rows() - 1), row);
            }
        } catch (const Error&) {
        }
    }
    return 0;
}
