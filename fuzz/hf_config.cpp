// Any text as config.json, as generation_config.json, as tokenizer_config.json, as a shard index, as the
// files that say how weights are quantized and as qwen3.c's prompt files.
#include <string>

#include "base/error.h"
#include "files/packed/packed_weights.h"
#include "files/qwen3c/qwen3c.h"
#include "files/readers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace smelt;
    const std::string text(reinterpret_cast<const char*>(data), size);
    const auto attempt = [](auto&& f) {
        try {
            f();
        } catch (const Error&) {
        }
    };
    Metadata metadata;
    attempt([&] { metadata = read_hf_config(text, "", "fuzz"); });
    attempt([&] { (void)read_hf_config(R"({"model_type": "qwen3"})", text, "fuzz"); });
    attempt([&] { read_hf_chat_template(text, "fuzz", metadata); });
    attempt([&] { (void)read_quant_scheme(text, "", "", "fuzz"); });
    attempt([&] { (void)read_quant_scheme("{}", text, "", "fuzz"); });
    attempt([&] { (void)read_quant_scheme("{}", "", text, "fuzz"); });
    attempt([&] { (void)read_shard_index(text, "fuzz", ".safetensors"); });
    attempt([&] { (void)qwen3c_chat_template({text, text, text + text, text + text}, "fuzz"); });
    return 0;
}
