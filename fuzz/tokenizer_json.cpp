// Any bytes as tokenizer.json: an Error, or a tokenizer that works and comes back from what is written of it.
#include <cstdint>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    try {
        Vocabulary v = read_vocabulary_json(text, "fuzz");
        read_tokenizer_config(v, R"({"bos_token":"<s>","eos_token":{"content":"</s>"}})", "fuzz");
        const Vocabulary again = read_vocabulary_json(write_vocabulary_json(v), "written");
        CHECK(again.merges == v.merges, "{} merges, {} after writing", v.merges.size(), again.merges.size());
        const Tokenizer tokenizer(std::move(v));
        (void)tokenizer.decode(tokenizer.encode(text.substr(0, 1000)));
    } catch (const Error&) {
    }
    return 0;
}
