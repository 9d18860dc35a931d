// An ONNX file piece by piece: nodes, constants with their bytes in a file beside it, inputs and outputs.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/atomic_file.h"
#include "files/onnx/onnx_graph.h"
#include "files/onnx/protobuf_writer.h"

namespace smelt {

class GraphWriter {
 public:
    // `data` gets the constants' bytes, `location` is its name in the graph.
    GraphWriter(AtomicFile& data, std::string location) : data_(data), location_(std::move(location)) {}

    using Value = std::variant<int64_t, float>;
    void node(const std::string& op, const std::string& domain, const std::string& name,
              std::initializer_list<std::string> inputs, std::initializer_list<std::string> outputs,
              std::initializer_list<std::pair<const char*, Value>> attributes = {});
    // The one attribute of Transpose.
    void transpose(const std::string& name, const std::string& input, const std::string& output);

    // Bytes go to `data` through the function that `fill` is given.
    using Sink = std::function<void(std::span<const std::byte>)>;
    void constant(const std::string& name, OnnxType type, const std::vector<int64_t>& shape,
                  const std::function<void(const Sink&)>& fill);
    // A few integers, in the graph itself; `scalar`: one without a dimension.
    void integers(const std::string& name, const std::vector<int64_t>& values, bool scalar = false);

    // A dimension is a number or a name.
    using Extent = std::variant<int64_t, std::string>;
    void input(const std::string& name, OnnxType type, const std::vector<Extent>& shape);
    void output(const std::string& name, OnnxType type, const std::vector<Extent>& shape);

    // The whole file's bytes.
    std::string model() const;

 private:
    static ProtobufWriter value_info(const std::string& name, OnnxType type,
                                     const std::vector<Extent>& shape);

    AtomicFile& data_;
    std::string location_;
    ProtobufWriter nodes_, tensors_, inputs_, outputs_;
};

}  // namespace smelt
