// Any bytes as a GGUF file: a model whose every tensor can be decoded, or an Error.
#include <algorithm>

#include "base/error.h"
#include "decode_ends.h"
#include "files/readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    try {
        ModelFile model;
        read_gguf(std::as_bytes(std::span(data, size)), "fuzz", model);
        apply_nvfp4_scales(model, Weights::ready);
        decode_ends(model);
    } catch (const Error&) {
    }
    return 0;
}
