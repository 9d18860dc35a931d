// Any bytes as a qwen3.c .bin: a model whose every tensor can be decoded, or an Error.
#include <algorithm>

#include "base/error.h"
#include "decode_ends.h"
#include "files/readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    try {
        ModelFile model;
        read_qwen3c(std::as_bytes(std::span(data, size)), "fuzz", model);
        decode_ends(model);
    } catch (const Error&) {
    }
    return 0;
}
