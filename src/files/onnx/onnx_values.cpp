// Look-ups in an ONNX graph, and small constants as numbers.
#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "files/onnx/onnx_graph.h"
#include "quant/format.h"

namespace smelt {

namespace {

constexpr int64_t most_read = 4096;  // numbers of a constant that is read as a whole: shapes, axes

void check_small(const OnnxTensor& t, bool right_type) {
    if (right_type && t.n_elements() <= most_read) return;
    throw Error("{}: tensor {}: expected at most {} numbers, found {} {}", t.source, t.name, most_read,
                shape_text(t.shape), to_string(t.type));
}

template <class T>
std::vector<T> elements(const OnnxTensor& t) {
    std::vector<T> values(static_cast<size_t>(t.n_elements()));
    if (!values.empty()) std::memcpy(values.data(), t.data.data(), values.size() * sizeof(T));
    return values;
}

}  // namespace

std::string to_string(OnnxType type) {
    switch (type) {
        case OnnxType::f32:
            return "float32";
        case OnnxType::u8:
            return "uint8";
        case OnnxType::i8:
            return "int8";
        case OnnxType::i32:
            return "int32";
        case OnnxType::i64:
            return "int64";
        case OnnxType::boolean:
            return "bool";
        case OnnxType::f16:
            return "float16";
        case OnnxType::f64:
            return "float64";
        case OnnxType::bf16:
            return "bfloat16";
        case OnnxType::u4:
            return "uint4";
        case OnnxType::i4:
            return "int4";
        case OnnxType::none:
            break;
    }
    return fmt::format("type {}", static_cast<int>(type));
}

int64_t OnnxTensor::n_elements() const {
    int64_t n = 1;
    for (const int64_t d : shape) n *= d;
    return n;
}

std::vector<int64_t> OnnxTensor::integers() const {
    check_small(*this, type == OnnxType::i64 || type == OnnxType::i32);
    if (type == OnnxType::i64) return elements<int64_t>(*this);
    const auto narrow = elements<int32_t>(*this);
    return {narrow.begin(), narrow.end()};
}

std::vector<double> OnnxTensor::reals() const {
    const bool is_real =
        type == OnnxType::f32 || type == OnnxType::f16 || type == OnnxType::bf16 || type == OnnxType::f64;
    check_small(*this, is_real);
    if (type == OnnxType::f64) return elements<double>(*this);
    const Format format = type == OnnxType::f32   ? Format::F32
                          : type == OnnxType::f16 ? Format::F16
                                                  : Format::BF16;
    std::vector<float> values(static_cast<size_t>(n_elements()));
    const std::vector<std::byte> copy(data.begin(), data.end());
    decode_row({format, copy.data(), nullptr, n_elements()}, values);
    return {values.begin(), values.end()};
}

const std::string& OnnxNode::input(size_t i) const {
    static const std::string none;
    return i < inputs.size() ? inputs[i] : none;
}

const OnnxAttribute* OnnxNode::find(std::string_view attribute) const {
    const auto it = std::ranges::find(attributes, attribute, &OnnxAttribute::name);
    return it == attributes.end() ? nullptr : &*it;
}

std::string OnnxNode::text() const {
    const std::string& label = !name.empty() ? name : outputs.empty() ? op : outputs.front();
    return fmt::format("node {} ({}{}{})", label, domain, domain.empty() ? "" : ".", op);
}

const OnnxNode* OnnxGraph::producer_of(const std::string& value) const {
    const auto it = producers.find(value);
    return it == producers.end() ? nullptr : &nodes[it->second.node];
}

const OnnxTensor* OnnxGraph::constant(const std::string& value) const {
    const auto it = constants.find(value);
    return it == constants.end() ? nullptr : &it->second;
}

bool OnnxGraph::is_input(const std::string& value) const {
    return !value.empty() && std::ranges::find(inputs, value, &OnnxValue::name) != inputs.end() &&
           !constants.contains(value);
}

}  // namespace smelt
