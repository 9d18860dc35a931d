// Any bytes as an ONNX model in one file: a model whose every tensor can be decoded, or an Error.
#include "files/onnx/onnx.h"
#include "base/error.h"
#include "decode_ends.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    try {
        ModelFile model;
        read_onnx(std::as_bytes(std::span(data, size)), "fuzz",
                  {.config = {}, .genai_config = R"({"model": {"type": "qwen3"}})", .generation_config = {}},
                  {}, Weights::ready, model);
        decode_ends(model);
    } catch (const Error&) {
    }
    return 0;
}
