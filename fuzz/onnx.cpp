// Any bytes as an ONNX model in one file: a model whose every tensor can be decoded, or an Error.
#include "files/onnx/onnx.h"
#include "base/error.h"
#include "files/families.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    try {
        ModelFile model;
        read_onnx(std::as_bytes(std::span(data, size)), "fuzz",
                  {.config = {}, .genai_config = R"({"model": {"type": "qwen3"}})", .generation_config = {}},
                  {}, Weights::ready, model);
        for (const TensorView& t : model.tensors) {
            if (t.n_rows() == 0) continue;
            std::vector<float> row(static_cast<size_t>(t.row_len()));
            decode_row(t.row(0), row);
            decode_row(t.row(t.n_rows() - 1), row);
        }
        (void)missing_tensors(model);
    } catch (const Error&) {
    }
    return 0;
}
