// onnx.proto's messages (the numbers are its fields) -> OnnxGraph. Every count is compared with what is left
// of the file before anything is made of it.
#include "files/onnx/onnx_graph.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "files/limits.h"
#include "files/onnx/external_data.h"
#include "files/onnx/protobuf_reader.h"
#include "files/readers.h"
#include "quant/format.h"

namespace smelt {

namespace {

constexpr size_t most_numbers = 4096;  // of a constant that the walk reads: shapes, axes
constexpr size_t most_names = 4096;    // of a node's inputs and outputs

// Bits of an element; 0: no type that is read.
int64_t element_bits(OnnxType type) {
    switch (type) {
        case OnnxType::u8:
        case OnnxType::i8:
        case OnnxType::boolean:
            return 8;
        case OnnxType::f32:
        case OnnxType::i32:
            return 32;
        case OnnxType::i64:
        case OnnxType::f64:
            return 64;
        case OnnxType::f16:
        case OnnxType::bf16:
            return 16;
        case OnnxType::u4:
        case OnnxType::i4:
            return 4;
        case OnnxType::none:
            break;
    }
    return 0;
}

std::string checked_text(const ProtobufReader& in, std::string_view what, const std::string& source) {
    if (in.bytes().size() > limits::tensor_name_bytes) {
        throw Error("{}: {} of {} bytes, at most {} are accepted", source, what, in.bytes().size(),
                    limits::tensor_name_bytes);
    }
    return check_name(in.text(), what, source);
}

// Numbers that a tensor has in a list of their own, not as bytes.
struct Listed {
    std::vector<int64_t> integers;
    std::vector<float> reals;
};

class GraphReader {
 public:
    GraphReader(const std::string& source, const std::filesystem::path& folder, ModelFile& model)
        : external_(folder, source, model), model_(model) {
        graph_.source = source;
    }

    OnnxGraph read(ProtobufReader in) {
        bool has_graph = false;
        while (in.next()) {
            switch (in.field()) {
                case 2:
                    graph_.producer = checked_text(in, "producer_name", graph_.source);
                    break;
                case 7:
                    if (has_graph) throw Error("{}: expected one graph, found two", graph_.source);
                    has_graph = true;
                    read_graph(in.message("graph"));
                    break;
                case 8:
                    read_opset(in.message("opset_import"));
                    break;
                case 25:
                    throw Error("{}: functions of the model's own are not read", graph_.source);
                default:
                    break;
            }
        }
        if (!has_graph) throw Error("{}: expected an ONNX model, found no graph in it", graph_.source);
        link();
        return std::move(graph_);
    }

 private:
    // What ops mean depends on the version of their set.
    void read_opset(ProtobufReader in) {
        std::string domain;
        int64_t version = 0;
        while (in.next()) {
            if (in.field() == 1) domain = checked_text(in, "domain of an opset", graph_.source);
            if (in.field() == 2) version = in.signed_integer();
        }
        if (domain == "ai.onnx") domain.clear();
        opsets_.insert_or_assign(domain, version);
    }

    void check_opset(const OnnxNode& node) const {
        const auto it = opsets_.find(node.domain);
        const bool known = it != opsets_.end() &&
                           (node.domain.empty() ? it->second >= 9 && it->second <= 26 : it->second >= 1);
        if (known) return;
        throw Error("{}: {}: expected an opset_import of its domain, of 9 to 26 for ONNX's own, found {}",
                    graph_.source, node.text(), it == opsets_.end() ? 0 : it->second);
    }

    void read_graph(ProtobufReader in) {
        while (in.next()) {
            switch (in.field()) {
                case 1:
                    if (graph_.nodes.size() == limits::tensors)
                        throw Error("{}: more than {} nodes", graph_.source, limits::tensors);
                    graph_.nodes.push_back(read_node(in.message("node")));
                    break;
                case 5:
                    add_constant(read_tensor(in.message("tensor")));
                    break;
                case 11:
                    graph_.inputs.push_back(read_value(in.message("input")));
                    break;
                case 12:
                    graph_.outputs.push_back(read_value(in.message("output")));
                    break;
                case 15:
                    throw Error("{}: sparse tensors are not read", graph_.source);
                default:
                    break;
            }
        }
    }

    OnnxNode read_node(ProtobufReader in) {
        OnnxNode node;
        std::optional<OnnxTensor> value;
        while (in.next()) {
            switch (in.field()) {
                case 1:
                    node.inputs.push_back(checked_text(in, "input of a node", graph_.source));
                    break;
                case 2:
                    node.outputs.push_back(checked_text(in, "output of a node", graph_.source));
                    break;
                case 3:
                    node.name = checked_text(in, "name of a node", graph_.source);
                    break;
                case 4:
                    node.op = checked_text(in, "op of a node", graph_.source);
                    break;
                case 5:
                    if (node.attributes.size() == most_names) in.fail("at most 4096 attributes", "more");
                    node.attributes.push_back(read_attribute(in.message("attribute"), value));
                    break;
                case 7:
                    node.domain = checked_text(in, "domain of a node", graph_.source);
                    if (node.domain == "ai.onnx") node.domain.clear();
                    break;
                default:
                    break;
            }
            if (node.inputs.size() + node.outputs.size() > most_names)
                in.fail(fmt::format("at most {} inputs and outputs", most_names), "more");
        }
        if (node.op == "Constant" && node.domain.empty() && node.outputs.size() == 1) {
            add_constant_of(node, std::move(value));
        }
        return node;
    }

    // What Constant makes: a tensor, or a number that becomes one.
    void add_constant_of(const OnnxNode& node, std::optional<OnnxTensor> value) {
        if (!value) {
            if (node.attributes.size() != 1) return;
            const OnnxAttribute& a = node.attributes.front();
            Listed listed;
            OnnxTensor made{.source = graph_.source};
            if (a.kind == OnnxAttribute::Kind::integer || a.kind == OnnxAttribute::Kind::integers) {
                made.type = OnnxType::i64;
                listed.integers =
                    a.kind == OnnxAttribute::Kind::integer ? std::vector<int64_t>{a.integer} : a.integers;
            } else if (a.kind == OnnxAttribute::Kind::real || a.kind == OnnxAttribute::Kind::reals) {
                made.type = OnnxType::f32;
                listed.reals = a.kind == OnnxAttribute::Kind::real
                                   ? std::vector<float>{static_cast<float>(a.real)}
                                   : a.reals;
            } else {
                return;
            }
            if (a.kind == OnnxAttribute::Kind::integers || a.kind == OnnxAttribute::Kind::reals) {
                made.shape = {static_cast<int64_t>(std::max(listed.integers.size(), listed.reals.size()))};
            }
            made.data = bytes_of(listed, made.type);
            value = std::move(made);
        }
        value->name = node.outputs.front();
        add_constant(std::move(*value));
    }

    OnnxAttribute read_attribute(ProtobufReader in, std::optional<OnnxTensor>& value) {
        using Kind = OnnxAttribute::Kind;
        OnnxAttribute a;
        const auto is = [&](Kind kind) { a.kind = kind; };
        while (in.next()) {
            switch (in.field()) {
                case 1:
                    a.name = checked_text(in, "name of an attribute", graph_.source);
                    break;
                case 2:
                    is(Kind::real);
                    a.real = static_cast<double>(in.real());
                    break;
                case 3:
                    is(Kind::integer);
                    a.integer = in.signed_integer();
                    break;
                case 4:
                    is(Kind::text);
                    if (in.bytes().size() <= limits::tensor_name_bytes) a.text = in.text();
                    break;
                case 5:
                    is(Kind::tensor);
                    value = read_tensor(in.message("tensor"));
                    break;
                case 7:
                    is(Kind::reals);
                    in.add_reals(a.reals, most_numbers);
                    break;
                case 8:
                    is(Kind::integers);
                    in.add_integers(a.integers, most_numbers);
                    break;
                case 6:
                case 9:
                case 10:
                case 11:
                case 14:
                case 15:
                case 21:
                case 22:
                case 23:
                    is(Kind::other);
                    break;
                default:
                    break;
            }
        }
        return a;
    }

    OnnxTensor read_tensor(ProtobufReader in) {
        OnnxTensor tensor{.source = graph_.source};
        Listed listed;
        std::optional<std::span<const std::byte>> raw;
        bool external = false;
        ExternalPlace place;
        while (in.next()) {
            switch (in.field()) {
                case 1:
                    in.add_integers(tensor.shape, limits::dims);
                    break;
                case 2:
                    tensor.type = static_cast<OnnxType>(std::min<uint64_t>(in.integer(), 1 << 16));
                    break;
                case 3:
                    in.fail("a tensor in one piece", "a segment");
                case 4:
                    in.add_reals(listed.reals, limits::array_items);
                    break;
                case 5:
                case 7:
                    in.add_integers(listed.integers, limits::array_items);
                    break;
                case 8:
                    tensor.name = checked_text(in, "name of a tensor", graph_.source);
                    break;
                case 9:
                    raw = in.bytes();
                    break;
                case 13:
                    place.add(in.message("external_data"), graph_.source);
                    break;
                case 14:
                    external = in.integer() == 1;
                    break;
                default:
                    break;
            }
        }
        const uint64_t n_bytes = check_size(tensor);
        if (external) {
            const auto found = external_.bytes_of(place, tensor.name, n_bytes);
            tensor.data = found.bytes;
            tensor.source = found.source;
        } else {
            tensor.data = raw ? *raw : bytes_of(listed, tensor.type);
        }
        if (tensor.data.size() != n_bytes) {
            throw Error("{}: tensor {}: expected {} bytes for {} {}, found {}", tensor.source, tensor.name,
                        n_bytes, shape_text(tensor.shape), to_string(tensor.type), tensor.data.size());
        }
        return tensor;
    }

    // Of types that are not read there are no more bytes than the file says.
    uint64_t check_size(const OnnxTensor& tensor) const {
        const int64_t bits = element_bits(tensor.type);
        if (bits == 0) {
            throw Error("{}: tensor {}: ONNX's type {} is not read", graph_.source, tensor.name,
                        static_cast<int>(tensor.type));
        }
        uint64_t n = 1;
        for (const int64_t d : tensor.shape) {
            const auto extent = static_cast<uint64_t>(d);
            if (d < 0 || (extent > 0 && n > limits::elements / extent)) {
                throw Error("{}: tensor {}: shape {} is too large", graph_.source, tensor.name,
                            shape_text(tensor.shape));
            }
            n *= extent;
        }
        return (n * static_cast<uint64_t>(bits) + 7) / 8;
    }

    // In the bytes that raw_data would have.
    std::span<const std::byte> bytes_of(const Listed& listed, OnnxType type) {
        std::vector<std::byte> bytes;
        const auto add = [&](const auto& value) {
            const auto raw = std::as_bytes(std::span(&value, 1));
            bytes.insert(bytes.end(), raw.begin(), raw.end());
        };
        for (const float v : listed.reals) add(v);
        for (const int64_t v : listed.integers) {
            switch (element_bits(type)) {
                case 64:
                    add(v);
                    break;
                case 32:
                    add(static_cast<int32_t>(v));
                    break;
                case 16:
                    add(static_cast<uint16_t>(v));
                    break;
                default:
                    add(static_cast<uint8_t>(v));
            }
        }
        if (bytes.empty()) return {};
        model_.owned.push_back(std::make_shared<const std::vector<std::byte>>(std::move(bytes)));
        return *model_.owned.back();
    }

    void add_constant(OnnxTensor tensor) {
        std::string name = tensor.name;
        if (!graph_.constants.emplace(name, std::move(tensor)).second)
            throw Error("{}: two tensors with the name {}", graph_.source, name);
    }

    OnnxValue read_value(ProtobufReader in) {
        OnnxValue value;
        while (in.next()) {
            if (in.field() == 1) value.name = checked_text(in, "name of an input or output", graph_.source);
            if (in.field() != 2) continue;
            for (ProtobufReader type = in.message("type"); type.next();) {
                if (type.field() != 1) continue;
                for (ProtobufReader tensor = type.message("tensor type"); tensor.next();) {
                    if (tensor.field() == 1) {
                        value.type = static_cast<OnnxType>(std::min<uint64_t>(tensor.integer(), 1 << 16));
                    } else if (tensor.field() == 2) {
                        read_shape(tensor.message("shape"), value.shape);
                    }
                }
            }
        }
        return value;
    }

    static void read_shape(ProtobufReader in, std::vector<int64_t>& shape) {
        while (in.next()) {
            if (in.field() != 1) continue;
            if (shape.size() == limits::dims)
                in.fail(fmt::format("at most {} dimensions", limits::dims), "more");
            int64_t extent = -1;
            for (ProtobufReader dim = in.message("dimension"); dim.next();) {
                if (dim.field() == 1) extent = dim.signed_integer();
            }
            shape.push_back(extent);
        }
    }

    // Who makes what, and that nothing is read before it is made: then there is no cycle either.
    void link() {
        std::unordered_set<std::string> known;
        for (const OnnxValue& v : graph_.inputs) known.insert(v.name);
        for (const auto& [name, tensor] : graph_.constants) known.insert(name);
        for (size_t i = 0; i < graph_.nodes.size(); ++i) {
            const OnnxNode& node = graph_.nodes[i];
            check_opset(node);
            for (const std::string& name : node.inputs) {
                if (name.empty() || known.contains(name)) continue;
                throw Error("{}: {} reads {}, which nothing before it makes", graph_.source, node.text(),
                            name);
            }
            for (size_t k = 0; k < node.outputs.size(); ++k) {
                const std::string& name = node.outputs[k];
                if (name.empty()) continue;
                const bool is_constant = node.op == "Constant" && graph_.constants.contains(name);
                if (!known.insert(name).second && !is_constant)
                    throw Error("{}: {} makes {}, which is there already", graph_.source, node.text(), name);
                graph_.producers.emplace(name, OnnxGraph::Producer{i, k});
            }
        }
    }

    ExternalData external_;
    ModelFile& model_;
    OnnxGraph graph_;
    std::map<std::string, int64_t> opsets_;
};

}  // namespace

// ModelProto starts with ir_version, a small number, and goes on with another of its fields.
bool is_onnx(std::span<const std::byte> bytes) {
    if (bytes.size() < 3) return false;
    const auto at = [&](size_t i) { return std::to_integer<int>(bytes[i]); };
    constexpr int next_fields[] = {0x12, 0x1a, 0x22, 0x28, 0x32, 0x3a, 0x42, 0x72};
    return at(0) == 0x08 && at(1) > 0 && at(1) < 128 &&
           std::ranges::find(next_fields, at(2)) != std::end(next_fields);
}

OnnxGraph read_onnx_graph(std::span<const std::byte> bytes, const std::string& source,
                          const std::filesystem::path& folder, ModelFile& model) {
    return GraphReader(source, folder, model).read(ProtobufReader(bytes, source, "model"));
}

}  // namespace smelt
