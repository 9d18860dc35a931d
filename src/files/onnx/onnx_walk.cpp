// logits <- head <- norm <- sum <- (feed-forward <- norm, sum <- (attention <- norm, sum <- ... embedding)).
#include "files/onnx/onnx_walk.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "files/limits.h"
#include "files/onnx/graph_match.h"

namespace smelt {

namespace {

constexpr std::string_view microsoft_ops = "com.microsoft";

class DecoderWalk {
 public:
    explicit DecoderWalk(const OnnxGraph& graph) : match_(graph), source_(graph.source) {}

    OnnxDecoder walk() {
        const auto& outputs = match_.graph().outputs;
        if (std::ranges::find(outputs, "logits", &OnnxValue::name) == outputs.end())
            throw Error("{}: expected an output with the name logits, found none", source_);
        const auto head = match_.require_product("logits", "the output head");
        if (head.bias != nullptr)
            throw Error("{}: the output head's bias {} is not read", source_, head.bias->name);
        d_.vocab_size = head.weight.n_out;
        d_.dim = head.weight.n_in;
        const auto last = norm_of(head.input, "the last norm");
        add_vector("output_norm.weight", last.weight);

        // From the last layer to the first: their number is known at the end.
        std::string stream;
        auto sum = sum_below(last, stream);
        while (sum) {
            if (d_.n_layers == limits::layers)
                throw Error("{}: more than {} layers", source_, limits::layers);
            const auto ffn = split(*sum, "the output of a feed-forward");
            feed_forward(ffn.product, ffn.rest);
            const auto between = match_.sum(ffn.rest);
            if (!between)
                match_.fail(match_.origin(ffn.rest), "the sum of a layer's attention with what it read");
            const auto attention = split(*between, "the output of an attention");
            self_attention(attention.product, attention.rest);
            ++d_.n_layers;
            stream = attention.rest;
            sum = match_.sum(stream);
        }
        if (d_.n_layers == 0) throw Error("{}: expected layers below the last norm, found none", source_);
        const OnnxWeight embedding = match_.embedding(stream);
        d_.tied = embedding.values == head.weight.values && embedding.scales == head.weight.scales &&
                  embedding.zeros == head.weight.zeros;
        add("token_embd.weight", embedding, 0, embedding.n_out);
        if (!d_.tied) add("output.weight", head.weight, 0, head.weight.n_out);
        match_.check_all_taken("logits");
        number_layers();
        return std::move(d_);
    }

 private:
    struct Halves {
        GraphMatch::Product product;
        std::string rest;
    };
    // One of a sum's two is a product with weights, the other what went by.
    Halves split(const GraphMatch::Sum& sum, std::string_view what) {
        if (auto p = match_.product(sum.b)) return {std::move(*p), sum.a};
        if (auto p = match_.product(sum.a)) return {std::move(*p), sum.b};
        match_.fail(match_.origin(sum.b), fmt::format("{}, a product with a constant matrix", what));
    }

    GraphMatch::Norm norm_of(const std::string& value, std::string_view what) {
        auto n = match_.norm(value);
        if (!n) match_.fail(match_.origin(value), fmt::format("{}, an RMS norm", what));
        if (d_.eps == 0) d_.eps = n->eps;
        if (n->eps != d_.eps)
            throw Error("{}: norms with epsilons of {} and {} are not read", source_, d_.eps, n->eps);
        return *n;
    }

    // What a norm is of: a sum, or a value whose name `stream` becomes.
    std::optional<GraphMatch::Sum> sum_below(const GraphMatch::Norm& n, std::string& stream) {
        if (!n.b.empty()) return GraphMatch::Sum{n.a, n.b};
        stream = n.a;
        return match_.sum(n.a);
    }

    void check_reads(const GraphMatch::Norm& n, const std::string& stream) {
        if (n.b.empty() ? match_.same(n.a, stream) : match_.same(n.sum, stream)) return;
        match_.fail(match_.origin(n.a), fmt::format("a norm of {}, as the layer goes on from it", stream));
    }

    void feed_forward(const GraphMatch::Product& down, const std::string& stream) {
        add_product("ffn_down", down);
        const OnnxNode& mul = match_.require(down.input, "Mul", "", "the gated feed-forward");
        if (mul.inputs.size() != 2) match_.fail(mul, "expected two inputs");
        std::optional<GraphMatch::Product> up, gate;
        for (const size_t side : {0, 1}) {
            const auto gated = match_.silu(mul.inputs[side]);
            if (!gated) continue;
            gate = match_.require_product(*gated, "the gate of a feed-forward");
            up = match_.require_product(mul.inputs[1 - side], "what is gated in a feed-forward");
            break;
        }
        if (!gate) match_.fail(match_.origin(mul.inputs[0]), "silu of the gate of a feed-forward");
        if (!match_.same(gate->input, up->input)) match_.fail(up->input, "the same input for gate and up");
        add_product("ffn_gate", *gate);
        add_product("ffn_up", *up);
        once(d_.ffn_dim, gate->weight.n_out, "length of feed-forwards");
        const auto n = norm_of(gate->input, "the norm of a feed-forward");
        check_reads(n, stream);
        add_vector("blk.ffn_norm.weight", n.weight);
    }

    void self_attention(const GraphMatch::Product& output, const std::string& stream) {
        add_product("attn_output", output);
        const OnnxNode& node =
            match_.require(output.input, "GroupQueryAttention", microsoft_ops, "the attention");
        const std::string input = read_attention(node);
        const auto n = norm_of(input, "the norm of an attention");
        check_reads(n, stream);
        add_vector("blk.attn_norm.weight", n.weight);
    }

    // The value that q, k and v are made of.
    std::string read_attention(const OnnxNode& node) {
        match_.check_known(node,
                           {"num_heads", "kv_num_heads", "scale", "softcap", "local_window_size", "do_rotary",
                            "rotary_interleaved", "smooth_softmax", "qk_norm_epsilon", "k_quant_type",
                            "v_quant_type", "qk_output"},
                           16);
        for (const size_t i : {10, 11, 12, 13}) {
            if (!node.input(i).empty()) {
                match_.fail(node,
                            fmt::format("input {} ({}): biases, sinks and quantized caches are not read", i,
                                        node.input(i)));
            }
        }
        for (const char* none : {"smooth_softmax", "qk_output"}) {
            if (const auto v = match_.integer(node, none, 0); v != 0 && v != -1)
                match_.fail(node, fmt::format("attribute {}: not known; it may change results", none));
        }
        for (const char* none : {"k_quant_type", "v_quant_type"}) {
            const OnnxAttribute* a = node.find(none);
            if (a != nullptr && a->text != "NONE" && a->text != "none")
                match_.fail(node, fmt::format("attribute {}: expected NONE", none));
        }
        if (match_.real(node, "softcap", 0) != 0) match_.fail(node, "attribute softcap: expected 0");
        match_.must_be(node, "rotary_interleaved", 0, 0);
        const int64_t n_heads = match_.integer(node, "num_heads", 0),
                      n_kv_heads = match_.integer(node, "kv_num_heads", 0);
        if (n_heads < 1 || n_kv_heads < 1 || n_heads % n_kv_heads != 0 || n_heads > limits::size)
            match_.fail(node, fmt::format("expected heads, found {} and {} of k and v", n_heads, n_kv_heads));
        once(d_.n_heads, n_heads, "number of heads");
        once(d_.n_kv_heads, n_kv_heads, "number of k and v heads");
        for (const size_t i : {3, 4}) {
            if (!node.input(i).empty() && !match_.graph().is_input(node.input(i)))
                match_.fail(node.input(i), "a cache of k or v that the graph is given");
        }
        for (const size_t i : {5, 6}) {
            match_.check_bookkeeping(node.input(i),
                                     {"ReduceSum", "Sub", "Cast", "Shape", "Gather", "Squeeze", "Unsqueeze",
                                      "Identity", "Reshape"},
                                     {"attention_mask"}, "lengths, made of attention_mask");
        }
        read_window(node);
        const std::string input = read_heads(node);
        const double scale = match_.real(node, "scale", 0),
                     usual = 1 / std::sqrt(static_cast<double>(d_.head_dim));
        if (scale != 0 && std::fabs(scale - usual) > 1e-6 * usual)
            match_.fail(node, fmt::format("attribute scale: expected {}, found {}", usual, scale));
        return input;
    }

    void read_window(const OnnxNode& node) {
        const int64_t window = match_.integer(node, "local_window_size", -1);
        if (d_.n_layers == 0) d_.window = std::max<int64_t>(window, 0);
        if (std::max<int64_t>(window, 0) != d_.window)
            match_.fail(node, "windows in some layers alone are not read");
    }

    std::string read_heads(const OnnxNode& node) {
        const bool packed = node.input(1).empty() && node.input(2).empty();
        const int64_t n_q = d_.n_heads, n_kv = d_.n_kv_heads;
        if (packed) {
            const auto qkv = match_.require_product(node.input(0), "q, k and v");
            const int64_t n = n_q + 2 * n_kv;
            set_head_dim(node, qkv.weight.n_out, n);
            const int64_t q = n_q * d_.head_dim, kv = n_kv * d_.head_dim;
            add_rows("attn_q", qkv, 0, q);
            add_rows("attn_k", qkv, q, kv);
            add_rows("attn_v", qkv, q + kv, kv);
            read_rotation(node);
            return qkv.input;
        }
        const auto v = match_.require_product(node.input(2), "the values of an attention");
        set_head_dim(node, v.weight.n_out, n_kv);
        const bool rotated = read_rotation(node);
        const std::string q_input = read_head(node, 0, "attn_q", n_q, rotated),
                          k_input = read_head(node, 1, "attn_k", n_kv, rotated);
        add_rows("attn_v", v, 0, v.weight.n_out);
        if (!match_.same(q_input, v.input) || !match_.same(k_input, v.input))
            match_.fail(node, "expected the same input for q, k and v");
        return v.input;
    }

    void set_head_dim(const OnnxNode& node, int64_t rows, int64_t n_heads) {
        if (rows % n_heads != 0 || rows < n_heads)
            match_.fail(node, fmt::format("expected whole heads, found {} rows for {} heads", rows, n_heads));
        once(d_.head_dim, rows / n_heads, "length of heads");
    }

    // Whether the attention rotates q and k itself.
    bool read_rotation(const OnnxNode& node) {
        const bool rotates = match_.integer(node, "do_rotary", 0) != 0;
        if (rotates) {
            set_tables(node, node.input(7), node.input(8));
            if (!node.input(9).empty()) check_positions(node.input(9));
        } else if (node.input(1).empty()) {
            match_.fail(node, "expected do_rotary = 1: a model without rotation is not read");
        }
        return rotates;
    }

    // q or k, from the attention's input back to the product: rotated, normed, both or neither.
    std::string read_head(const OnnxNode& node, size_t i, const std::string& name, int64_t n, bool rotated) {
        std::string at = node.input(i);
        if (!rotated) {
            const OnnxNode& rotation =
                match_.require(at, "RotaryEmbedding", microsoft_ops, "the rotation of a head");
            match_.check_known(
                rotation, {"interleaved", "num_heads", "rotary_embedding_dim", "scale", "is_packed_batching"},
                4);
            match_.must_be(rotation, "interleaved", 0, 0);
            match_.must_be(rotation, "is_packed_batching", 0, 0);
            if (match_.real(rotation, "scale", 1) != 1) match_.fail(rotation, "attribute scale: expected 1");
            const int64_t part = match_.integer(rotation, "rotary_embedding_dim", 0);
            if (part != 0 && part != d_.head_dim)
                match_.fail(rotation,
                            fmt::format("attribute rotary_embedding_dim: expected 0, found {}", part));
            check_positions(rotation.input(1));
            set_tables(rotation, rotation.input(2), rotation.input(3));
            at = rotation.input(0);
        }
        const std::string& weight = node.input(i == 0 ? 14 : 15);
        const OnnxTensor* norm = nullptr;
        if (!weight.empty()) {
            norm = match_.constant(weight);
            if (norm == nullptr) match_.fail(weight, "a constant norm of heads");
            same_eps(match_.real(node, "qk_norm_epsilon", 1e-6));
        } else if (const OnnxNode* joined = match_.made_by(at, "Reshape"); joined != nullptr) {
            match_.take(*joined);
            check_last_extent(*joined, n * d_.head_dim);
            const auto found = norm_of(joined->input(0), "the norm of a head");
            const OnnxNode& split = match_.require(found.a, "Reshape", "", "heads, each a row");
            if (!found.b.empty()) match_.fail(split, "expected a norm of one value");
            check_last_extent(split, d_.head_dim);
            norm = found.weight;
            at = split.input(0);
        }
        const auto p = match_.require_product(at, "q or k of an attention");
        if (p.weight.n_out != n * d_.head_dim) {
            match_.fail(node, fmt::format("{}: expected {} heads of {}, found {} rows", name, n, d_.head_dim,
                                          p.weight.n_out));
        }
        add_rows(name, p, 0, p.weight.n_out);
        if (norm != nullptr) {
            if (norm->shape != std::vector<int64_t>{d_.head_dim})
                match_.fail(node, fmt::format("{}: expected a norm of {}, found {}", name, d_.head_dim,
                                              shape_text(norm->shape)));
            add_vector(fmt::format("blk.{}_norm.weight", name), norm);
            d_.head_norms = true;
        }
        return p.input;
    }

    void same_eps(double eps) {
        if (std::fabs(eps - d_.eps) > 1e-6 * d_.eps)
            throw Error("{}: norms with epsilons of {} and {} are not read", source_, d_.eps, eps);
    }

    void check_last_extent(const OnnxNode& reshape, int64_t expected) {
        const OnnxTensor* shape = match_.constant(reshape.input(1));
        const std::vector<int64_t> extents = shape == nullptr ? std::vector<int64_t>{} : shape->integers();
        if (extents.size() < 2 || extents.back() != expected)
            match_.fail(reshape, fmt::format("expected rows of {}, found {}", expected, shape_text(extents)));
        match_.must_be(reshape, "allowzero", 0, 0);
    }

    void check_positions(const std::string& value) {
        match_.check_bookkeeping(
            value, {"Reshape", "Cast", "Identity", "Unsqueeze", "Squeeze", "Concat", "Gather", "Shape"},
            {"position_ids", "input_ids"}, "positions, as position_ids has them");
    }

    void set_tables(const OnnxNode& node, const std::string& cos, const std::string& sin) {
        const OnnxTensor *c = match_.constant(cos), *s = match_.constant(sin);
        if (c == nullptr || s == nullptr)
            match_.fail(match_.origin(c == nullptr ? cos : sin), "a constant table of cosines or sines");
        if ((d_.cos != nullptr && d_.cos != c) || (d_.sin != nullptr && d_.sin != s))
            match_.fail(node, "expected the same tables of cosines and sines in all layers");
        d_.cos = c;
        d_.sin = s;
    }

    void once(int64_t& size, int64_t found, std::string_view what) const {
        if (size != 0 && size != found)
            throw Error("{}: expected one {} in all layers, found {} and {}", source_, what, size, found);
        size = found;
    }

    // "blk." stands for the layer, which gets its number at the end.
    void add(std::string name, const OnnxWeight& weight, int64_t first, int64_t n) {
        if (name.starts_with("blk.")) name = fmt::format("blk.{}.{}", d_.n_layers, name.substr(4));
        d_.parts.push_back({std::move(name), weight, first, n});
    }
    void add_vector(const std::string& name, const OnnxTensor* values, int64_t first = 0, int64_t n = -1) {
        const int64_t all = values->n_elements();
        add(name, {.values = values, .n_out = all}, first, n < 0 ? all : n);
    }
    void add_rows(const std::string& name, const GraphMatch::Product& p, int64_t first, int64_t n) {
        add(fmt::format("blk.{}.weight", name), p.weight, first, n);
        if (p.bias != nullptr) add_vector(fmt::format("blk.{}.bias", name), p.bias, first, n);
        d_.head_biases = d_.head_biases || (p.bias != nullptr && name == "attn_q");
    }
    void add_product(const std::string& name, const GraphMatch::Product& p) {
        add_rows(name, p, 0, p.weight.n_out);
    }

    void number_layers() {
        for (OnnxPart& part : d_.parts) {
            if (!part.name.starts_with("blk.")) continue;
            const size_t end = part.name.find('.', 4);
            const int64_t from_end = std::stoll(part.name.substr(4, end - 4));
            part.name = fmt::format("blk.{}{}", d_.n_layers - 1 - from_end, part.name.substr(end));
        }
        std::ranges::reverse(d_.parts);
    }

    GraphMatch match_;
    std::string source_;
    OnnxDecoder d_;
};

}  // namespace

OnnxDecoder walk_onnx(const OnnxGraph& graph) {
    return DecoderWalk(graph).walk();
}

}  // namespace smelt
