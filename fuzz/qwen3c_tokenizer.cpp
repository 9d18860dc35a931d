// Any bytes as a .tokenizer file of qwen3.c, the first two as vocabulary size: an Error, or a tokenizer that
// works.
#include <cstdint>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    if (size < 2) return 0;
    const auto bytes = std::as_bytes(std::span(data + 2, size - 2));
    try {
        Vocabulary v = read_vocabulary_qwen3c(bytes, data[0] + 256 * data[1], "fuzz");
        (void)write_vocabulary_qwen3c(v, v.bos, v.eos);
        const Tokenizer tokenizer(std::move(v));
        (void)tokenizer.decode(tokenizer.encode({reinterpret_cast<const char*>(data), size}));
    } catch (const Error&) {
    }
    return 0;
}
