// The numbers are fields of onnx.proto's messages.
#include "files/onnx/graph_writer.h"

#include <fmt/format.h>

namespace smelt {

namespace {

constexpr uint64_t ir_version = 7, opset = 14;  // as onnxruntime-genai's builder writes
constexpr uint64_t alignment_in_file = 64;      // of a tensor, so that readers may map it

enum AttributeType : uint64_t { attribute_real = 1, attribute_integer = 2, attribute_integers = 7 };

}  // namespace

void GraphWriter::node(const std::string& op, const std::string& domain, const std::string& name,
                       std::initializer_list<std::string> inputs, std::initializer_list<std::string> outputs,
                       std::initializer_list<std::pair<const char*, Value>> attributes) {
    ProtobufWriter node;
    for (const std::string& input : inputs) node.text(1, input);
    for (const std::string& output : outputs) node.text(2, output);
    node.text(3, name).text(4, op);
    for (const auto& [key, value] : attributes) {
        ProtobufWriter attribute;
        attribute.text(1, key);
        if (const auto* real = std::get_if<float>(&value)) {
            attribute.real(2, *real).integer(20, attribute_real);
        } else {
            attribute.integer(3, static_cast<uint64_t>(std::get<int64_t>(value)))
                .integer(20, attribute_integer);
        }
        node.message(5, attribute);
    }
    if (!domain.empty()) node.text(7, domain);
    nodes_.message(1, node);
}

void GraphWriter::transpose(const std::string& name, const std::string& input, const std::string& output) {
    ProtobufWriter perm;
    perm.text(1, "perm").integer(8, 1).integer(8, 0).integer(20, attribute_integers);
    ProtobufWriter node;
    node.text(1, input).text(2, output).text(3, name).text(4, "Transpose").message(5, perm);
    nodes_.message(1, node);
}

void GraphWriter::constant(const std::string& name, OnnxType type, const std::vector<int64_t>& shape,
                           const std::function<void(const Sink&)>& fill) {
    data_.write_zeros(static_cast<size_t>(-data_.position() % alignment_in_file));
    const uint64_t offset = data_.position();
    fill([&](std::span<const std::byte> bytes) { data_.write(bytes); });
    ProtobufWriter tensor;
    for (const int64_t extent : shape) tensor.integer(1, static_cast<uint64_t>(extent));
    tensor.integer(2, static_cast<uint64_t>(type)).text(8, name);
    const auto place = [&](const char* key, const std::string& value) {
        tensor.message(13, ProtobufWriter().text(1, key).text(2, value));
    };
    place("location", location_);
    place("offset", fmt::format("{}", offset));
    place("length", fmt::format("{}", data_.position() - offset));
    tensor.integer(14, 1);
    tensors_.message(5, tensor);
}

void GraphWriter::integers(const std::string& name, const std::vector<int64_t>& values, bool scalar) {
    ProtobufWriter tensor;
    if (!scalar) tensor.integer(1, values.size());
    const auto bytes = std::as_bytes(std::span(values));
    tensor.integer(2, static_cast<uint64_t>(OnnxType::i64)).text(8, name);
    tensor.text(9, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    tensors_.message(5, tensor);
}

ProtobufWriter GraphWriter::value_info(const std::string& name, OnnxType type,
                                       const std::vector<Extent>& shape) {
    ProtobufWriter extents;
    for (const Extent& e : shape) {
        ProtobufWriter extent;
        if (const auto* text = std::get_if<std::string>(&e)) {
            extent.text(2, *text);
        } else {
            extent.integer(1, static_cast<uint64_t>(std::get<int64_t>(e)));
        }
        extents.message(1, extent);
    }
    const auto tensor = ProtobufWriter().integer(1, static_cast<uint64_t>(type)).message(2, extents);
    return ProtobufWriter().text(1, name).message(2, ProtobufWriter().message(1, tensor));
}

void GraphWriter::input(const std::string& name, OnnxType type, const std::vector<Extent>& shape) {
    inputs_.message(11, value_info(name, type, shape));
}

void GraphWriter::output(const std::string& name, OnnxType type, const std::vector<Extent>& shape) {
    outputs_.message(12, value_info(name, type, shape));
}

std::string GraphWriter::model() const {
    std::string graph = nodes_.bytes();
    graph += ProtobufWriter().text(2, "main_graph").bytes();
    graph += tensors_.bytes() + inputs_.bytes() + outputs_.bytes();
    ProtobufWriter model;
    model.integer(1, ir_version).text(2, "smelt").text(7, graph);
    model.message(8, ProtobufWriter().text(1, "").integer(2, opset));
    model.message(8, ProtobufWriter().text(1, "com.microsoft").integer(2, 1));
    return model.bytes();
}

}  // namespace smelt
