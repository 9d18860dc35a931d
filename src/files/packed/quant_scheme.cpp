// quantization_config of config.json, quantize_config.json (AutoGPTQ's first releases) and
// hf_quant_config.json (NVIDIA's Model Optimizer).
#include <algorithm>

#include "base/ascii.h"
#include "base/error.h"
#include "base/json.h"
#include "files/limits.h"
#include "files/packed/packed_weights.h"

namespace smelt {

namespace {

class Settings {
 public:
    Settings(Json json, std::string source) : json_(std::move(json)), source_(std::move(source)) {
        if (!json_.is_object()) throw Error("{}: expected an object", source_);
    }

    // Lower case; empty where the key is missing.
    std::string text(const char* key) const {
        const auto it = json_.find(key);
        if (it == json_.end() || it->is_null()) return {};
        if (!it->is_string()) fail(key, "a string");
        return ascii_lower(check_name(it->get<std::string>(), key, source_));
    }
    int64_t integer(const char* key, int64_t fallback) const {
        const auto it = json_.find(key);
        if (it == json_.end() || it->is_null()) return fallback;
        if (!it->is_number_integer()) fail(key, "an integer");
        return it->get<int64_t>();
    }
    bool flag(const char* key, bool fallback) const {
        const auto it = json_.find(key);
        if (it == json_.end() || it->is_null()) return fallback;
        if (!it->is_boolean()) fail(key, "true or false");
        return it->get<bool>();
    }
    [[noreturn]] void fail(const char* key, const std::string& expected) const {
        throw Error("{}: {}: expected {}, found {}", source_, key, expected,
                    to_string(json_.value(key, Json())).substr(0, 60));
    }

 private:
    Json json_;
    std::string source_;
};

QuantScheme read_gptq(const Settings& s) {
    QuantScheme scheme{.method = QuantScheme::Method::gptq};
    const int64_t bits = s.integer("bits", 4);
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8) s.fail("bits", "2, 3, 4 or 8");
    scheme.bits = static_cast<int>(bits);
    scheme.group_size = s.integer("group_size", -1);
    const std::string format = s.text("checkpoint_format");
    if (!format.empty() && format != "gptq" && format != "gptq_v2")
        s.fail("checkpoint_format", "gptq or gptq_v2");
    if (s.flag("is_marlin_format", false)) s.fail("is_marlin_format", "false");
    scheme.zeros_less_one = format != "gptq_v2";
    return scheme;
}

QuantScheme read_awq(const Settings& s) {
    QuantScheme scheme{.method = QuantScheme::Method::awq, .zeros_less_one = false};
    if (s.integer("bits", s.integer("w_bit", 4)) != 4) s.fail("bits", "4");
    scheme.group_size = s.integer("group_size", s.integer("q_group_size", 128));
    if (const std::string version = s.text("version"); !version.empty() && version != "gemm") {
        s.fail("version", "gemm");
    }
    return scheme;
}

Json parse(std::string_view text, const std::string& source) {
    return parse_json(text, source, {.max_bytes = limits::config_bytes});
}

}  // namespace

QuantScheme read_quant_scheme(std::string_view config_text, std::string_view quantize_config,
                              std::string_view hf_quant_config, const std::string& source) {
    const Json config = parse(config_text, source + "/config.json");
    const auto it = config.find("quantization_config");
    if (it == config.end() || it->is_null()) {
        if (!quantize_config.empty()) {
            const std::string name = source + "/quantize_config.json";
            return read_gptq(Settings(parse(quantize_config, name), name));
        }
        if (hf_quant_config.empty()) return {};
    }
    // Model Optimizer's own file has it one level down.
    const bool own_file = it == config.end() || it->is_null();
    const std::string name =
        source + (own_file ? "/hf_quant_config.json: quantization" : "/config.json: quantization_config");
    const Json hf_quant = hf_quant_config.empty() ? Json::object() : parse(hf_quant_config, name);
    const Settings s(own_file ? hf_quant.value("quantization", Json()) : *it, name);
    const std::string method = own_file ? "modelopt" : s.text("quant_method");
    if (method == "mxfp4") return {};  // its pairs of tensors are joined by their names
    if (method == "gptq") return read_gptq(s);
    if (method == "awq") return read_awq(s);
    if (method == "compressed-tensors") {
        if (s.text("format") != "nvfp4-pack-quantized") s.fail("format", "nvfp4-pack-quantized");
        return {.method = QuantScheme::Method::nvfp4};
    }
    if (method == "modelopt" || method == "modelopt_fp4") {
        if (s.text("quant_algo") != "nvfp4") s.fail("quant_algo", "NVFP4");
        return {.method = QuantScheme::Method::nvfp4};
    }
    s.fail("quant_method", "gptq, awq, mxfp4, compressed-tensors or modelopt");
}

}  // namespace smelt
