// The ops are ONNX's own and those of com.microsoft that onnxruntime's exporters write; what each computes,
// with its inputs and attributes, is in the operators' documents of onnx and onnxruntime.
#include "files/onnx/graph_match.h"

#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "files/limits.h"

namespace smelt {

namespace {

constexpr std::string_view microsoft = "com.microsoft";

bool is_float(int64_t type) {
    const auto t = static_cast<OnnxType>(type);
    return t == OnnxType::f32 || t == OnnxType::f16 || t == OnnxType::bf16 || t == OnnxType::f64;
}

bool is_weight_type(OnnxType type) {
    return type == OnnxType::f32 || type == OnnxType::f16 || type == OnnxType::bf16;
}

}  // namespace

void GraphMatch::fail(const std::string& value, std::string_view expected) const {
    const OnnxNode* node = graph_.producer_of(value);
    const std::string found = node != nullptr                     ? node->text()
                              : graph_.constant(value) != nullptr ? "tensor " + value
                              : value.empty()                     ? "nothing"
                                                                  : "input " + value;
    throw Error("{}: expected {}, found {}", graph_.source, expected, found);
}

void GraphMatch::fail(const OnnxNode& node, const std::string& text) const {
    throw Error("{}: {}: {}", graph_.source, node.text(), text);
}

std::string GraphMatch::origin(const std::string& value) {
    std::string at = value;
    while (const OnnxNode* node = graph_.producer_of(at)) {
        const bool is_cast = node->op == "Cast" && node->domain.empty() && is_float(integer(*node, "to", 0));
        if (!is_cast && !(node->op == "Identity" && node->domain.empty())) break;
        if (graph_.producers.at(at).output != 0 || node->inputs.empty()) break;
        take(*node);
        at = node->inputs.front();
    }
    return at;
}

const OnnxNode* GraphMatch::made_by(const std::string& value, std::string_view op, std::string_view domain) {
    const std::string at = origin(value);
    const auto it = graph_.producers.find(at);
    if (it == graph_.producers.end() || it->second.output != 0) return nullptr;
    const OnnxNode& node = graph_.nodes[it->second.node];
    return node.op == op && node.domain == domain ? &node : nullptr;
}

const OnnxNode& GraphMatch::require(const std::string& value, std::string_view op, std::string_view domain,
                                    std::string_view what) {
    const OnnxNode* node = made_by(value, op, domain);
    if (node == nullptr) fail(origin(value), fmt::format("{} ({})", what, op));
    take(*node);
    return *node;
}

void GraphMatch::check_all_taken(const std::string& value) const {
    std::unordered_set<std::string> seen;
    std::vector<std::string> todo = {value};
    while (!todo.empty()) {
        const std::string at = std::move(todo.back());
        todo.pop_back();
        if (!seen.insert(at).second) continue;
        const OnnxNode* node = graph_.producer_of(at);
        if (node == nullptr || node->op == "Constant") continue;
        if (!taken_.contains(node)) fail(*node, "not known here; it may change results");
        for (const std::string& input : node->inputs) {
            if (!input.empty()) todo.push_back(input);
        }
    }
}

const OnnxTensor* GraphMatch::constant(const std::string& value) {
    return value.empty() ? nullptr : graph_.constant(origin(value));
}

std::optional<double> GraphMatch::number(const std::string& value) {
    const OnnxTensor* t = constant(value);
    if (t == nullptr || t->n_elements() != 1) return std::nullopt;
    if (t->type == OnnxType::i64 || t->type == OnnxType::i32)
        return static_cast<double>(t->integers().front());
    return t->reals().front();
}

void GraphMatch::check_known(const OnnxNode& node, std::initializer_list<std::string_view> attributes,
                             size_t n_inputs) const {
    for (const OnnxAttribute& a : node.attributes) {
        if (std::ranges::find(attributes, a.name) == attributes.end())
            fail(node, fmt::format("attribute {}: not known; it may change results", a.name));
    }
    for (size_t i = n_inputs; i < node.inputs.size(); ++i) {
        if (!node.inputs[i].empty())
            fail(node, fmt::format("input {} ({}): not known; it may change results", i, node.inputs[i]));
    }
}

int64_t GraphMatch::integer(const OnnxNode& node, std::string_view attribute, int64_t otherwise) const {
    const OnnxAttribute* a = node.find(attribute);
    if (a == nullptr) return otherwise;
    if (a->kind != OnnxAttribute::Kind::integer)
        fail(node, fmt::format("attribute {}: expected an integer", attribute));
    return a->integer;
}

double GraphMatch::real(const OnnxNode& node, std::string_view attribute, double otherwise) const {
    const OnnxAttribute* a = node.find(attribute);
    if (a == nullptr) return otherwise;
    if (a->kind != OnnxAttribute::Kind::real)
        fail(node, fmt::format("attribute {}: expected a number", attribute));
    return a->real;
}

void GraphMatch::must_be(const OnnxNode& node, std::string_view attribute, int64_t otherwise,
                         int64_t expected) const {
    const int64_t found = integer(node, attribute, otherwise);
    if (found != expected)
        fail(node, fmt::format("attribute {}: expected {}, found {}", attribute, expected, found));
}

std::optional<OnnxWeight> GraphMatch::matrix(const std::string& value) {
    OnnxWeight w;
    const OnnxNode* turned = made_by(value, "Transpose");
    w.values = constant(turned == nullptr ? value : turned->input(0));
    if (w.values == nullptr || w.values->shape.size() != 2 || !is_weight_type(w.values->type))
        return std::nullopt;
    if (turned != nullptr) {
        const OnnxAttribute* perm = turned->find("perm");
        if (perm != nullptr && perm->integers != std::vector<int64_t>{1, 0}) return std::nullopt;
        take(*turned);
    }
    w.by_columns = turned == nullptr;
    w.n_in = w.values->shape[w.by_columns ? 0 : 1];
    w.n_out = w.values->shape[w.by_columns ? 1 : 0];
    return w;
}

// B (N, blocks, bytes of a block), scales and zero points (N * blocks).
OnnxWeight GraphMatch::integers_of(const OnnxNode& node) {
    check_known(node, {"K", "N", "bits", "block_size", "accuracy_level"}, 4);
    OnnxWeight w;
    w.n_in = integer(node, "K", 0);
    w.n_out = integer(node, "N", 0);
    w.bits = static_cast<int>(integer(node, "bits", 4));
    w.block = integer(node, "block_size", 0);
    const bool right = w.n_in > 0 && w.n_in <= limits::size && w.n_out > 0 && w.n_out <= limits::size &&
                       (w.bits == 4 || w.bits == 8) && w.block >= 16 && w.block <= 1 << 20 &&
                       (w.block & (w.block - 1)) == 0;
    if (!right) {
        fail(node,
             fmt::format("expected 4 or 8 bits in blocks of 16, 32, 64, ..., found bits {}, block_size {}, "
                         "K {}, N {}",
                         w.bits, w.block, w.n_in, w.n_out));
    }
    w.values = constant(node.input(1));
    w.scales = constant(node.input(2));
    w.zeros = constant(node.input(3));
    if (w.values == nullptr || w.scales == nullptr || (w.zeros == nullptr && !node.input(3).empty()))
        fail(node, "expected constant weights, scales and zero points");
    return w;
}

std::optional<GraphMatch::Product> GraphMatch::product(const std::string& value) {
    Product p;
    std::string at = origin(value);
    const OnnxNode* add = made_by(at, "Add");
    if (add != nullptr && add->inputs.size() == 2) {
        const size_t side = constant(add->inputs[0]) != nullptr ? 0 : 1;
        p.bias = constant(add->inputs[side]);
        if (p.bias == nullptr) return std::nullopt;
        at = add->inputs[1 - side];
    }
    const OnnxNode* node = made_by(at, "MatMulNBits", microsoft);
    if (node != nullptr) {
        p.weight = integers_of(*node);
    } else {
        node = made_by(at, "MatMul");
        if (node == nullptr) return std::nullopt;
        const auto w = matrix(node->input(1));
        if (!w) return std::nullopt;
        p.weight = *w;
    }
    if (p.bias != nullptr &&
        (p.bias->shape != std::vector<int64_t>{p.weight.n_out} || !is_weight_type(p.bias->type))) {
        fail(*add, fmt::format("expected a bias of {}, found {}", p.weight.n_out, shape_text(p.bias->shape)));
    }
    if (p.bias != nullptr) take(*add);
    take(*node);
    p.input = node->input(0);
    return p;
}

GraphMatch::Product GraphMatch::require_product(const std::string& value, std::string_view what) {
    auto p = product(value);
    if (!p) fail(origin(value), fmt::format("{}, a product with a constant matrix", what));
    return *p;
}

std::optional<GraphMatch::Norm> GraphMatch::norm(const std::string& value) {
    Norm n;
    const OnnxNode* node = made_by(value, "SkipSimplifiedLayerNormalization", microsoft);
    if (node != nullptr) {
        check_known(*node, {"epsilon"}, 3);
        n = {.a = node->input(0), .b = node->input(1)};
        n.weight = constant(node->input(2));
        if (node->outputs.size() > 3) n.sum = node->outputs[3];
    } else {
        node = made_by(value, "SimplifiedLayerNormalization");
        if (node == nullptr) node = made_by(value, "RMSNormalization");
        if (node == nullptr) return std::nullopt;
        check_known(*node, {"epsilon", "axis", "stash_type"}, 2);
        must_be(*node, "axis", -1, -1);
        n.a = node->input(0);
        n.weight = constant(node->input(1));
    }
    n.eps = real(*node, "epsilon", 1e-5);
    if (n.weight == nullptr || n.weight->shape.size() != 1 || !is_weight_type(n.weight->type))
        fail(*node, "expected a constant vector of weights");
    take(*node);
    return n;
}

std::optional<GraphMatch::Sum> GraphMatch::sum(const std::string& value) {
    const std::string at = origin(value);
    const auto it = graph_.producers.find(at);
    if (it == graph_.producers.end()) return std::nullopt;
    const OnnxNode& node = graph_.nodes[it->second.node];
    const bool of_norm =
        node.op == "SkipSimplifiedLayerNormalization" && node.domain == microsoft && it->second.output == 3;
    if (!of_norm && !(node.op == "Add" && node.domain.empty() && node.inputs.size() == 2))
        return std::nullopt;
    if (of_norm) check_known(node, {"epsilon"}, 3);
    take(node);
    return Sum{node.input(0), node.input(1)};
}

// x * sigmoid(x), or the nodes that onnxruntime and newer opsets have for it.
std::optional<std::string> GraphMatch::silu(const std::string& value) {
    if (const OnnxNode* node = made_by(value, "QuickGelu", microsoft); node != nullptr) {
        if (real(*node, "alpha", 1.702) != 1) fail(*node, "attribute alpha: expected 1");
        take(*node);
        return node->input(0);
    }
    if (const OnnxNode* node = made_by(value, "Swish"); node != nullptr) {
        if (real(*node, "alpha", 1) != 1) fail(*node, "attribute alpha: expected 1");
        take(*node);
        return node->input(0);
    }
    const OnnxNode* mul = made_by(value, "Mul");
    if (mul == nullptr || mul->inputs.size() != 2) return std::nullopt;
    for (const size_t side : {0, 1}) {
        const OnnxNode* sigmoid = made_by(mul->inputs[side], "Sigmoid");
        if (sigmoid == nullptr || !same(sigmoid->input(0), mul->inputs[1 - side])) continue;
        take(*mul);
        take(*sigmoid);
        return mul->inputs[1 - side];
    }
    return std::nullopt;
}

OnnxWeight GraphMatch::embedding(const std::string& value) {
    const auto check_ids = [&](const OnnxNode& node) {
        const std::string ids = origin(node.input(1));
        if (!graph_.is_input(ids)) fail(ids, "the token ids that the graph is given");
        take(node);
    };
    if (const OnnxNode* node = made_by(value, "GatherBlockQuantized", microsoft); node != nullptr) {
        check_known(*node, {"bits", "block_size", "gather_axis", "quantize_axis"}, 4);
        must_be(*node, "gather_axis", 0, 0);
        must_be(*node, "quantize_axis", 1, 1);
        const OnnxNode* reshape = made_by(node->input(0), "Reshape");
        if (reshape != nullptr) take(*reshape);
        OnnxWeight w;
        w.values = constant(reshape == nullptr ? node->input(0) : reshape->input(0));
        w.scales = constant(node->input(2));
        w.zeros = constant(node->input(3));
        w.bits = static_cast<int>(integer(*node, "bits", 4));
        w.block = integer(*node, "block_size", 128);
        const bool right = w.values != nullptr && w.values->type == OnnxType::u8 &&
                           w.values->shape.size() >= 2 && w.scales != nullptr &&
                           (w.bits == 4 || w.bits == 8) && w.block >= 16 && w.block <= 1 << 20 &&
                           (w.block & (w.block - 1)) == 0 &&
                           (w.zeros != nullptr) == !node->input(3).empty() && w.values->shape[0] > 0;
        if (!right) fail(*node, "expected constant uint8 rows of 4 or 8 bits, and their scales");
        w.n_out = w.values->shape[0];
        w.n_in = w.values->n_elements() / w.n_out * 8 / w.bits;
        check_ids(*node);
        return w;
    }
    const OnnxNode& node = require(value, "Gather", "", "the embedding");
    check_known(node, {"axis"}, 2);
    must_be(node, "axis", 0, 0);
    auto w = matrix(node.input(0));
    if (!w) fail(origin(node.input(0)), "the embedding, a constant matrix");
    // A row for each token, where matrix() sees a row for each input.
    w->by_columns = !w->by_columns;
    std::swap(w->n_in, w->n_out);
    check_ids(node);
    return *w;
}

void GraphMatch::check_bookkeeping(const std::string& value, std::initializer_list<std::string_view> ops,
                                   std::initializer_list<std::string_view> inputs, std::string_view what) {
    std::unordered_set<std::string> seen;
    std::vector<std::string> todo = {value};
    while (!todo.empty()) {
        const std::string at = std::move(todo.back());
        todo.pop_back();
        if (!seen.insert(at).second || graph_.constant(at) != nullptr) continue;
        const OnnxNode* node = graph_.producer_of(at);
        const bool known = node == nullptr
                               ? std::ranges::find(inputs, at) != inputs.end()
                               : node->domain.empty() && std::ranges::find(ops, node->op) != ops.end();
        if (!known) fail(at, what);
        if (node == nullptr) continue;
        take(*node);
        for (const std::string& input : node->inputs) {
            if (!input.empty()) todo.push_back(input);
        }
    }
}

}  // namespace smelt
