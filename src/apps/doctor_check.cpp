// The checks: random records of each op and format, and a tiny random model of each architecture.
#include "apps/doctor_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "apps/shapes.h"
#include "backend/check/op_check.h"
#include "base/error.h"
#include "base/json.h"
#include "engine/forward.h"
#include "files/families.h"

namespace smelt {

namespace {

constexpr int records_per_op = 12, records_per_format = 4;

struct Check {
    std::string name, difference;  // empty: ok
};

std::string title_of(std::string_view op) {
    static constexpr std::pair<std::string_view, std::string_view> titles[] = {
        {"Rope", "RoPE"},
        {"RopeTable", "RoPE table"},
        {"RmsNorm", "RMSNorm"},
        {"AddRmsNorm", "Add, RMSNorm"},
        {"SiluMul", "SwiGLU"},
        {"ClampedSiluMul", "clamped SwiGLU"},
        {"Gelu", "GELU"},
        {"StoreKv", "KV store"},
        {"GatedMatmul", "Matmul, SwiGLU"},
        {"TopK", "top-k"},
        {"GatherRows", "gather rows"},
        {"PrepareHeads", "norm, RoPE, KV store"}};
    for (const auto& [name, title] : titles) {
        if (name == op) return std::string(title);
    }
    return std::string(op);
}

constexpr int64_t tiny_dim = 96, tiny_ffn_dim = 160, tiny_heads = 4, tiny_head_dim = 128;  // at most

// The first published config of the architecture, with dimensions that take no time.
Shape tiny_shape(const std::string& architecture) {
    const std::vector<Shape> shapes = list_shapes();
    const auto known = std::ranges::find(shapes, architecture, &Shape::architecture);
    if (known == shapes.end()) throw Error("{}: no shape of it is known", architecture);
    const auto family = std::ranges::find(all_families(), architecture, &Family::architecture);
    CHECK(family != all_families().end());
    // What published configs leave to their family's defaults has dimensions too.
    Json config = parse_json((*family)->defaults, known->name);
    config.update(parse_json(known->config, known->name));
    const bool one_head_each =
        config.value("num_key_value_heads", int64_t{1}) == config.value("num_attention_heads", int64_t{0});
    const int64_t n_layers = config.contains("first_k_dense_replace") ? 3 : 2;
    const std::pair<const char*, int64_t> sizes[] = {{"num_hidden_layers", n_layers},
                                                     {"n_layer", n_layers},
                                                     {"hidden_size", tiny_dim},
                                                     {"n_embd", tiny_dim},
                                                     {"intermediate_size", tiny_ffn_dim},
                                                     {"moe_intermediate_size", 64},
                                                     {"num_attention_heads", tiny_heads},
                                                     {"n_head", tiny_heads},
                                                     {"num_key_value_heads", one_head_each ? tiny_heads : 2},
                                                     {"head_dim", 32},
                                                     {"vocab_size", 320},
                                                     {"q_lora_rank", 64},
                                                     {"kv_lora_rank", 64},
                                                     {"qk_nope_head_dim", 32},
                                                     {"qk_rope_head_dim", 32},
                                                     {"v_head_dim", 32},
                                                     {"n_routed_experts", 6},
                                                     {"num_experts", 6},
                                                     {"num_local_experts", 6},
                                                     {"num_experts_per_tok", 2}};
    for (const auto& [key, value] : sizes) {
        if (config.contains(key)) config[key] = value;
    }
    return {.name = known->name, .architecture = architecture, .config = config.dump(), .n_layers = n_layers};
}

std::string compare_model(Backend& device, Backend& reference, const std::string& architecture) {
    const Shape shape = tiny_shape(architecture);
    const auto file = make_random_model(shape, Format::F32);
    const auto tested = load_model(file, device), expected = load_model(file, reference);
    const int64_t vocab_size = expected->config().vocab_size;
    std::vector<int32_t> ids;
    for (int32_t i = 0; i < 19; ++i) ids.push_back((i * 31 + 7) % static_cast<int32_t>(vocab_size));
    const std::vector<float> right = forward_logits(*expected, reference, ids);
    double largest = 0;
    for (const float x : right) largest = std::max(largest, std::fabs(static_cast<double>(x)));
    // As many roundings as a logit has on its way: the columns of each product, one after the other.
    const int64_t columns =
        shape.n_layers * (4 * tiny_dim + 2 * tiny_ffn_dim + tiny_heads * tiny_head_dim) + tiny_dim;
    const double bound = static_cast<double>(columns) * 0x1p-24 * largest;
    for (const int chunk : {0, 7, 1}) {
        const std::vector<float> got = forward_logits(*tested, device, ids, chunk);
        for (size_t i = 0; i < right.size(); ++i) {
            const double off = std::fabs(static_cast<double>(got[i]) - static_cast<double>(right[i]));
            if (off <= bound) continue;
            return fmt::format(
                "logit {} of position {}, {} tokens a step: expected {:.9g}, got {:.9g}, bound {:.3g}",
                i % static_cast<size_t>(vocab_size), i / static_cast<size_t>(vocab_size), chunk, right[i],
                got[i], bound);
        }
    }
    return {};
}

class Checks {
 public:
    Checks(Backend& device, Backend& reference, bool quiet)
        : device_(device), reference_(reference), quiet_(quiet) {}

    void run() {
        for (const std::string_view op : op_names()) {
            if (!may_have(device_.describe().fusions, op)) continue;
            add(title_of(op), [&] { return records({.op = op}, records_per_op); });
        }
        for (const FormatInfo& f : all_formats()) {
            add(fmt::format("format {}", f.name), [&] {
                for (const char* op : {"Matmul", "Embed", "MatmulExperts"}) {
                    std::string d = records({.op = op, .format = f.format}, records_per_format);
                    if (!d.empty()) return d;
                }
                return std::string();
            });
        }
        add("ops in a row", [&] { return records({.n_ops = 7}, records_per_op); });
        for (const std::string& a : list_architectures())
            add(fmt::format("architecture {}", a), [&] { return compare_model(device_, reference_, a); });
    }
    const std::vector<Check>& all() const { return all_; }

 private:
    std::string records(const RandomRecordOptions& options, uint64_t n) {
        for (uint64_t seed = 0; seed < n; ++seed) {
            std::string d = check_random_record(device_, reference_, options, Choices(seed));
            if (!d.empty()) return d;
        }
        return {};
    }
    void add(std::string name, const std::function<std::string()>& check) {
        Check c{std::move(name), {}};
        try {
            c.difference = check();
        } catch (const Error& e) {
            c.difference = e.what();
        }
        if (!quiet_) {
            fmt::print("{}: {}\n", c.name, c.difference.empty() ? "ok" : "WRONG: " + c.difference);
            std::fflush(stdout);
        }
        all_.push_back(std::move(c));
    }

    Backend &device_, &reference_;
    bool quiet_;
    std::vector<Check> all_;
};

}  // namespace

void check_device(const DeviceOptions& o, bool json) {
    const auto device = o.open(), reference = make_reference_backend();
    if (device->name() == reference->name())
        throw Error("device reference: it is what the others are compared with");
    if (!json)
        fmt::print("device     {}: {}, against the scalar reference\n", device->name(),
                   device->description());
    Checks checks(*device, *reference, json);
    checks.run();
    const auto n_wrong =
        std::ranges::count_if(checks.all(), [](const Check& c) { return !c.difference.empty(); });
    if (json) {
        Json list = Json::array();
        for (const Check& c : checks.all()) {
            Json entry = {{"name", c.name}, {"ok", c.difference.empty()}};
            if (!c.difference.empty()) entry["difference"] = c.difference;
            list.push_back(std::move(entry));
        }
        fmt::print("{}\n", Json{{"device", device->name()},
                                {"description", device->description()},
                                {"ok", n_wrong == 0},
                                {"checks", std::move(list)}}
                               .dump(2));
    }
    if (n_wrong > 0) throw Error("{} of {} checks failed", n_wrong, checks.all().size());
}

}  // namespace smelt
