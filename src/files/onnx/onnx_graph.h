// An ONNX file as a graph: nodes in order, constant tensors where they lie in the mapped files, inputs and
// outputs. Knows what a graph is and nothing of what its ops compute.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "files/model_file.h"

namespace smelt {

// onnx.proto's TensorProto.DataType, those with a use here.
enum class OnnxType {
    none = 0,
    f32 = 1,
    u8 = 2,
    i8 = 3,
    i32 = 6,
    i64 = 7,
    boolean = 9,
    f16 = 10,
    f64 = 11,
    bf16 = 16,
    u4 = 21,
    i4 = 22,
};
std::string to_string(OnnxType type);

struct OnnxTensor {
    std::string name = {};
    OnnxType type = OnnxType::none;
    std::vector<int64_t> shape = {};
    std::span<const std::byte> data = {};  // as many bytes as type and shape say; in no alignment
    std::string source = {};               // file that holds it

    int64_t n_elements() const;
    // Of a small tensor of numbers. Throws Error where it is large or of another type.
    std::vector<int64_t> integers() const;
    std::vector<double> reals() const;
};

struct OnnxAttribute {
    std::string name;
    enum class Kind { none, real, integer, text, tensor, reals, integers, other } kind = Kind::none;
    double real = 0;
    int64_t integer = 0;
    std::string text = {};
    std::vector<int64_t> integers = {};
    std::vector<float> reals = {};
};

struct OnnxNode {
    std::string name, op, domain;  // the domain is empty for ONNX's own ops
    std::vector<std::string> inputs, outputs;
    std::vector<OnnxAttribute> attributes;

    // Empty where the node has no such input.
    const std::string& input(size_t i) const;
    const OnnxAttribute* find(std::string_view attribute) const;
    // "node /model/layers.0/mlp/Mul (Mul)", for messages.
    std::string text() const;
};

struct OnnxValue {
    std::string name;
    OnnxType type = OnnxType::none;
    std::vector<int64_t> shape;  // -1: not said
};

struct OnnxGraph {
    std::string source;
    std::string producer;
    std::vector<OnnxNode> nodes;  // each after those whose outputs it reads
    std::vector<OnnxValue> inputs, outputs;
    std::unordered_map<std::string, OnnxTensor> constants;  // initializers, and outputs of Constant
    // The node that makes a value, and which of its outputs that is.
    struct Producer {
        size_t node, output;
    };
    std::unordered_map<std::string, Producer> producers;

    const OnnxNode* producer_of(const std::string& value) const;
    const OnnxTensor* constant(const std::string& value) const;
    bool is_input(const std::string& value) const;
};

// Whether bytes start as an ONNX file does.
bool is_onnx(std::span<const std::byte> bytes);

// External data is looked for in `folder`, the files that have it are added to model.mappings. An empty
// folder: there is none. Throws Error naming the node or tensor that is damaged, or that is known not to be
// read: a subgraph, a sparse tensor.
OnnxGraph read_onnx_graph(std::span<const std::byte> bytes, const std::string& source,
                          const std::filesystem::path& folder, ModelFile& model);

}  // namespace smelt
