// Matching of small patterns in an ONNX graph, from a value back to what it is made of. Knows ops, not
// models. Every node that a pattern takes is noted, so that none is passed over.
#pragma once

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "files/onnx/onnx_walk.h"

namespace smelt {

class GraphMatch {
 public:
    explicit GraphMatch(const OnnxGraph& graph) : graph_(graph) {}

    const OnnxGraph& graph() const { return graph_; }

    // The value behind casts between floats and Identity nodes, which change its precision alone.
    std::string origin(const std::string& value);
    bool same(const std::string& a, const std::string& b) { return origin(a) == origin(b); }

    // The node that makes this value; null: another one does, or none.
    const OnnxNode* made_by(const std::string& value, std::string_view op, std::string_view domain = "");
    // The same, or an Error that says what is there.
    const OnnxNode& require(const std::string& value, std::string_view op, std::string_view domain,
                            std::string_view what);
    [[noreturn]] void fail(const std::string& value, std::string_view expected) const;
    [[noreturn]] void fail(const OnnxNode& node, const std::string& text) const;

    // The node is part of a pattern.
    void take(const OnnxNode& node) { taken_.insert(&node); }
    // Throws Error naming a node that the value depends on and that no pattern took.
    void check_all_taken(const std::string& value) const;

    // A constant, also behind casts and Identity; null: the value is none.
    const OnnxTensor* constant(const std::string& value);
    // Of one element.
    std::optional<double> number(const std::string& value);

    // Attributes. Throws Error where the node has others than these, or inputs beyond n_inputs.
    void check_known(const OnnxNode& node, std::initializer_list<std::string_view> attributes,
                     size_t n_inputs) const;
    int64_t integer(const OnnxNode& node, std::string_view attribute, int64_t otherwise) const;
    double real(const OnnxNode& node, std::string_view attribute, double otherwise) const;
    void must_be(const OnnxNode& node, std::string_view attribute, int64_t otherwise, int64_t expected) const;

    // x times a constant matrix, with or without a constant vector added.
    struct Product {
        std::string input;
        OnnxWeight weight;
        const OnnxTensor* bias = nullptr;
    };
    std::optional<Product> product(const std::string& value);
    Product require_product(const std::string& value, std::string_view what);

    // RMS norm of a value, or of a sum of two that goes on under a name of its own.
    struct Norm {
        std::string a = {}, b = {},
                    sum = {};  // b is empty where a value is normed; sum where nobody else reads it
        const OnnxTensor* weight = nullptr;
        double eps = 0;
    };
    std::optional<Norm> norm(const std::string& value);

    // a + b, as a node of its own or as the second result of a norm.
    struct Sum {
        std::string a, b;
    };
    std::optional<Sum> sum(const std::string& value);

    // silu(x): x.
    std::optional<std::string> silu(const std::string& value);

    // A row of a constant matrix for each token id.
    OnnxWeight embedding(const std::string& value);

    // The value says lengths or positions alone: it is made of these inputs by nodes of these kinds.
    void check_bookkeeping(const std::string& value, std::initializer_list<std::string_view> ops,
                           std::initializer_list<std::string_view> inputs, std::string_view what);

 private:
    std::optional<OnnxWeight> matrix(const std::string& value);
    OnnxWeight integers_of(const OnnxNode& node);

    const OnnxGraph& graph_;
    std::set<const OnnxNode*> taken_;
};

}  // namespace smelt
