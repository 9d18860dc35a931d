// config.pbtxt: its text form, what it means, and what the command writes.
#include <gtest/gtest.h>

#include "base/error.h"
#include "triton/model_config.h"
#include "triton/text_protobuf.h"

namespace smelt {
namespace {

Json parse(const std::string& text) {
    return parse_text_protobuf(text, "config.pbtxt");
}
std::string fault(const std::string& text) {
    try {
        read_triton_config(parse(text));
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

TEST(TextProtobuf, IsReadAsTritonWouldReadIt) {
    const Json c = parse(R"(
# a comment
name: "demo" 'and more'   # neighbours are one
max_batch_size: 8;
input [ { name: "a" dims: [ 1, -1 ] }, { name: "b" dims: 2 dims: 3 } ]
instance_group { count: 1 kind: KIND_CPU }
optimization < eager_batching: true >
parameters { key: "A" value: { string_value: "x\n\"\x41\101" } }
parameters: [ { key: "B" value { string_value: "" } } ]
ratio: 1.5e3
)");
    EXPECT_EQ(c["name"], "demoand more");
    EXPECT_EQ(c["max_batch_size"], 8);
    EXPECT_EQ(c["input"][0]["dims"], Json({1, -1}));
    EXPECT_EQ(c["input"][1]["dims"], Json({2, 3}));
    EXPECT_EQ(c["instance_group"][0]["kind"], "KIND_CPU");
    EXPECT_EQ(c["optimization"]["eager_batching"], true);
    EXPECT_EQ(c["parameters"]["A"]["string_value"], "x\n\"AA");
    EXPECT_EQ(c["parameters"]["B"]["string_value"], "");
    EXPECT_EQ(c["ratio"], 1500.0);
    EXPECT_EQ(parse("a: " + text_protobuf_string("\"\\\n\x7f\u00e9"))["a"], "\"\\\n\x7f\u00e9");
}

TEST(TextProtobuf, FaultsSayTheLine) {
    const auto wrong = [](const std::string& text) -> std::string {
        try {
            parse(text);
        } catch (const Error& e) {
            return e.what();
        }
        return "no error";
    };
    EXPECT_EQ(wrong("name: \"demo\nx"),
              "config.pbtxt:1: expected the end of a string, found a control character");
    EXPECT_EQ(wrong("a: 1\na: 2"), "config.pbtxt:2: expected a once, found the end");
    EXPECT_EQ(wrong("a {"), "config.pbtxt:1: expected the name of a field, found the end");
    EXPECT_EQ(wrong("a"), "config.pbtxt:1: expected ':' or '{', found the end");
    EXPECT_EQ(wrong("a:"), "config.pbtxt:1: expected a value, found the end");
    EXPECT_EQ(wrong("parameters { key: 5 }"),
              "config.pbtxt:1: expected parameters as entries of key and value, found the end");
    std::string deep;
    for (int i = 0; i < 100'000; ++i) deep += "a{";
    EXPECT_NE(wrong(deep).find("fewer braces"), std::string::npos);
    EXPECT_NE(wrong(std::string(2 << 20, ' ')).find("at most"), std::string::npos);
    // Every beginning of a good text, and every text with one byte changed, is read or refused.
    const std::string good =
        "name: \"x\" input [ { dims: [ 1 ] } ] parameters { key: \"a\" value: { s: '\\x41' } }";
    for (size_t i = 0; i < good.size(); ++i) {
        wrong(good.substr(0, i));
        for (const char c : {'\0', '{', ']', '"', '\\', '\xff'}) {
            std::string changed = good;
            changed[i] = c;
            wrong(changed);
        }
    }
}

// As people write such a file: two accelerators with parameters, and parameters of the model.
const std::string document = R"(
name: "qwen"
backend: "smelt"
optimization {
  execution_accelerators {
    cpu_execution_accelerator : [
      {
        name : "amx"
        parameters { key: "tile_size" value: "32" }
        parameters { key: "quantization_support" value: "int4" }
      }
    ],
    gpu_execution_accelerator : [
      {
        name : "mps"
        parameters { key: "precision" value: "fp16" }
        parameters { key: "use_unified_memory" value: "true" }
      }
    ]
  }
}
)";
const std::string its_parameters = R"(
parameters: [
  { key: "MODEL_QUANTIZATION" value: { string_value: "int4" } },
  { key: "PYTORCH_ENABLE_MPS_FALLBACK" value: { string_value: "1" } }
]
)";

TEST(TritonConfig, TheDocumentsConfigurationActs) {
    const TritonConfig c = read_triton_config(parse(document + its_parameters));
    EXPECT_EQ(c.name, "qwen");
    EXPECT_EQ(c.quantization, (std::vector{Format::Q4_K, Format::Q4_0}));
    bool has_metal = false;
    for (const BackendInfo& b : list_backends()) has_metal |= b.name == "metal" && b.missing.empty();
    EXPECT_EQ(c.open.device, has_metal ? "metal" : "cpu");
    EXPECT_EQ(c.warnings.size(), has_metal ? 1u : 2u);
    // Without its word for falling back, what is not here is a fault with a name.
    EXPECT_NE(fault(document).find("execution_accelerator."), std::string::npos) << fault(document);
}

TEST(TritonConfig, KeysActOrAreRefusedByName) {
    const auto cpu = [](const std::string& parameters) {
        return "optimization { execution_accelerators { cpu_execution_accelerator [ { name: \"cpu\" " +
               parameters + " } ] } }";
    };
    const auto p = [](const std::string& key, const std::string& value) {
        return "parameters { key: \"" + key + "\" value: { string_value: \"" + value + "\" } }";
    };
    EXPECT_EQ(
        read_triton_config(parse(cpu("parameters { key: \"threads\" value: \"3\" }"))).open.backend.n_threads,
        3);
    EXPECT_EQ(read_triton_config(parse(cpu("parameters { key: \"precision\" value: \"fp32\" }"))).open.kv.k,
              Format::F32);
    EXPECT_EQ(read_triton_config(parse(cpu("parameters { key: \"isa\" value: \"portable\" }"))).open.device,
              "cpu");
    EXPECT_EQ(read_triton_config(parse(p("CONTEXT", "512"))).open.n_ctx, 512);
    EXPECT_EQ(read_triton_config(parse(p("KV_TOKENS", "4096"))).open.kv_tokens, 4096);
    EXPECT_EQ(read_triton_config(parse(p("KV_FORMAT", "k=q8_0,v=f16"))).open.kv.k, Format::Q8_0);
    EXPECT_EQ(read_triton_config(parse(p("DEVICE", "reference"))).open.device, "reference");
    EXPECT_EQ(read_triton_config(parse("max_batch_size: 5")).open.engine.scheduler.max_seqs, 5);
    EXPECT_TRUE(read_triton_config(parse("model_transaction_policy { decoupled: true }")).decoupled);
    EXPECT_EQ(read_triton_config(parse("instance_group [ { kind: KIND_GPU } ]")).open.device, "cuda");
    EXPECT_EQ(fault("backend: \"vllm\""), "backend: expected smelt, found vllm");
    EXPECT_EQ(fault("max_batch_sizes: 3"), "max_batch_sizes: no such key here; did you mean max_batch_size?");
    EXPECT_EQ(fault("max_batch_size: -3"), "max_batch_size: expected 0 to 1024, found -3");
    EXPECT_EQ(fault("ensemble_scheduling { step { model_name: \"a\" } }").substr(0, 34),
              "ensemble_scheduling: not supported");
    EXPECT_EQ(fault("input [ { name: \"text_input\" data_type: TYPE_INT32 } ]"),
              "input.text_input: expected TYPE_STRING, found TYPE_INT32");
    EXPECT_EQ(fault("input: [ 5 ]"), "input: expected a message, found 5");
    EXPECT_EQ(fault("instance_group: [ \"a\" ]"), "instance_group: expected a message, found \"a\"");
    EXPECT_EQ(fault("optimization { execution_accelerators { cpu_execution_accelerator: [ 5 ] } }"),
              "optimization.execution_accelerators.cpu_execution_accelerator: expected a message, found 5");
    EXPECT_EQ(fault("model_transaction_policy { decoupled: 1 }"),
              "model_transaction_policy.decoupled: expected true or false");
    EXPECT_EQ(fault("output [ { name: \"logits\" data_type: TYPE_FP32 } ]"),
              "output: smelt's models have no output logits");
    EXPECT_EQ(fault("platform: \"onnxruntime_onnx\"").substr(0, 23), "platform: not supported");
    EXPECT_EQ(fault("optimization { cuda { graphs: true } }").substr(0, 32),
              "optimization.cuda: not supported");
    EXPECT_NE(
        fault(cpu("parameters { key: \"tile\" value: \"3\" }")).find("cpu_execution_accelerator.cpu.tile"),
        std::string::npos);
    EXPECT_NE(fault("parameters { key: \"CONTEXT\" value: \"512\" }").find("expected a string_value"),
              std::string::npos);
}

TEST(TritonConfig, WhatIsWrittenIsReadBack) {
    const std::string text = write_triton_config({.name = "my \"model\"",
                                                  .model_path = "/models/a b",
                                                  .max_batch_size = 7,
                                                  .device = "cpu",
                                                  .quantization = "int8",
                                                  .n_ctx = 256});
    const TritonConfig c = read_triton_config(parse(text));
    EXPECT_EQ(c.name, "my \"model\"");
    EXPECT_EQ(c.model_path, "/models/a b");
    EXPECT_EQ(c.open.engine.scheduler.max_seqs, 7);
    EXPECT_EQ(c.open.device, "cpu");
    EXPECT_EQ(c.open.n_ctx, 256);
    EXPECT_EQ(c.quantization, std::vector{Format::Q8_0});
    EXPECT_TRUE(c.decoupled);
    EXPECT_TRUE(c.warnings.empty());
}

}  // namespace
}  // namespace smelt
