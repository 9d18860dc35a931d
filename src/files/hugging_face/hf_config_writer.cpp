// Written in the style with rope_theta and rope_scaling at top level, which old and new transformers read.
#include "files/hugging_face/hf_config_writer.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "files/writers.h"

namespace smelt {

namespace {

Json to_json(const MetadataValue& value) {
    return std::visit([](const auto& v) { return Json(v); }, value);
}

// GGUF files of other makers have the divisors only. Llama 3.1 and 3.2 differ in `factor` alone, which is the
// largest divisor; whether that explains the rest is checked.
Json scaling_from_divisors(const ModelFile& model, const TensorView& tensor,
                           const std::string& architecture) {
    const int64_t n = tensor.row_len();
    std::vector<float> divisors(static_cast<size_t>(std::max<int64_t>(n, 0)));
    if (tensor.n_rows() == 1) decode_row(tensor.row(0), divisors);
    const double factor = divisors.empty() ? 0 : static_cast<double>(*std::ranges::max_element(divisors));

    Metadata guess = model.metadata;
    const std::string scaling = architecture + ".rope.scaling.";
    guess.set(scaling + "type", std::string("llama3"));
    guess.set(scaling + "factor", factor);
    guess.set(scaling + "low_freq_factor", 1.0);
    guess.set(scaling + "high_freq_factor", 4.0);
    guess.set(scaling + "original_context_length", int64_t{8192});
    const std::vector<float> expected =
        factor > 0 ? llama3_rope_divisors(guess, architecture) : std::vector<float>{};
    const bool same =
        expected.size() == divisors.size() && std::ranges::equal(expected, divisors, [](float a, float b) {
            return std::fabs(a - b) <= 1e-4f * std::fabs(b);
        });
    if (!same) {
        throw Error("{}: rope_freqs.weight: these divisors are not Llama 3's, config.json cannot say them",
                    tensor.source);
    }
    return {{"rope_type", "llama3"},
            {"factor", factor},
            {"low_freq_factor", 1.0},
            {"high_freq_factor", 4.0},
            {"original_max_position_embeddings", 8192}};
}

Json longrope(const ModelFile& model, const std::string& scaling) {
    Json out = {{"rope_type", "longrope"}, {"type", "longrope"}};
    for (const char* which : {"short", "long"}) {
        const TensorView& t = model.require(fmt::format("rope_factors_{}.weight", which));
        std::vector<float> values(static_cast<size_t>(t.n_elements()));
        decode_row({t.format, t.data.data(), nullptr, t.n_elements()}, values);
        out[fmt::format("{}_factor", which)] = values;
    }
    if (const auto factor = model.metadata.get_double(scaling + "attn_factor"))
        out["attention_factor"] = *factor;
    if (const auto original = model.metadata.get_int(scaling + "original_context_length"))
        out["original_max_position_embeddings"] = *original;
    return out;
}

Json rope_scaling(const ModelFile& model, const std::string& architecture) {
    const Metadata& m = model.metadata;
    const std::string scaling = architecture + ".rope.scaling.";
    const std::string* type = m.get_string(scaling + "type");
    if (model.find("rope_factors_long.weight") != nullptr) return longrope(model, scaling);
    if (type == nullptr || *type == "none" || *type == "default") {
        const TensorView* divisors = model.find("rope_freqs.weight");
        return divisors == nullptr ? Json() : scaling_from_divisors(model, *divisors, architecture);
    }
    Json out = {{"rope_type", *type}};
    const auto copy = [&](const char* from, const char* to) {
        if (const MetadataValue* value = m.find(scaling + from)) out[to] = to_json(*value);
    };
    copy("factor", "factor");
    copy("original_context_length", "original_max_position_embeddings");
    copy("low_freq_factor", "low_freq_factor");
    copy("high_freq_factor", "high_freq_factor");
    copy("yarn_beta_fast", "beta_fast");
    copy("yarn_beta_slow", "beta_slow");
    copy("truncate", "truncate");
    if (const auto log = m.get_double(scaling + "yarn_log_multiplier"))
        out["mscale"] = out["mscale_all_dim"] = std::round(*log * 1e6) / 1e5;
    if (const auto part = m.get_double(scaling + "attn_factor")) {
        const double factor = m.get_double(scaling + "factor").value_or(1);
        out["attention_factor"] = *part * (*type == "yarn" && factor > 1 ? 0.1 * std::log(factor) + 1 : 1);
    }
    return out;
}

void add_windows(const ModelFile& model, const Family& family, Json& config) {
    const std::string prefix = std::string(family.architecture) + ".attention.";
    const auto window = model.metadata.get_int(prefix + "sliding_window");
    config["sliding_window"] = window ? Json(*window) : Json();
    if (family.windows.opt_in) config["use_sliding_window"] = window.has_value();
    const auto* pattern = model.metadata.get_ints(prefix + "sliding_window_pattern");
    if (window && pattern) {
        Json& types = config["layer_types"] = Json::array();
        for (const int64_t has_window : *pattern)
            types.push_back(has_window != 0 ? "sliding_attention" : "full_attention");
    }
}

void add_layer_types(const Metadata& m, const std::string& prefix, Json& config) {
    Json& types = config["layer_types"] = Json::array();
    if (const auto* list = m.get_ints(prefix + "attention.recurrent_layers")) {
        for (const int64_t recurrent : *list)
            types.push_back(recurrent != 0 ? "linear_attention" : "full_attention");
    }
}

// Whether the model has the tensors that its config has a say in: with any of them, all.
void add_flags(const ModelFile& model, const Family& family, Json& config) {
    for (const TensorRule& rule : family.tensors) {
        if (rule.flag.empty()) continue;
        Json& flag = config[std::string(rule.flag)];
        flag = flag == true || model.find(gguf_name({&rule, 0, -1})) != nullptr;
    }
}

const char* torch_dtype(Format f) {
    return f == Format::BF16 ? "bfloat16" : f == Format::F16 ? "float16" : "float32";
}

}  // namespace

Json make_hf_config(const ModelFile& model, const Family& family, Format main_format) {
    const Metadata& m = model.metadata;
    const std::string architecture(family.architecture), prefix = architecture + ".";
    Json config = {{"architectures", Json::array({std::string(family.hf_class)})},
                   {"model_type", std::string(family.model_type)}};
    config.update(parse_json(family.must, "must"));
    for (const ConfigKey& key : family.config) {
        if (key.hf.empty()) continue;
        const MetadataValue* value = m.find(prefix + std::string(key.gguf));
        if (value == nullptr && key.optional) continue;
        if (value == nullptr)
            throw Error("{}: metadata {}{} is missing", model.path.string(), prefix, key.gguf);
        config[std::string(key.hf)] = to_json(*value);
    }
    const auto value_length = m.get_int(prefix + "attention.value_length");
    if (family.latent) {
        config["num_key_value_heads"] = config["num_attention_heads"];
    } else if (value_length && value_length != m.get_int(prefix + "attention.key_length")) {
        throw Error("{}: config.json cannot say that {}attention.value_length is {}", model.path.string(),
                    prefix, *value_length);
    }
    if (family.rotary) {
        config["rope_theta"] = m.get_double(prefix + "rope.freq_base").value_or(10000);
        config["rope_scaling"] = rope_scaling(model, architecture);
        if (const auto base = m.get_double(prefix + "rope.freq_base_swa"); base && family.local_rotary)
            config["rope_local_base_freq"] = *base;
        const auto n_rotated = m.get_int(prefix + "rope.dimension_count"),
                   head = m.get_int(prefix + "attention.key_length");
        if (family.partial_rotary && n_rotated && head && *head > 0) {
            config["partial_rotary_factor"] = static_cast<double>(*n_rotated) / static_cast<double>(*head);
        }
        if (config["rope_scaling"].is_object() &&
            config["rope_scaling"].contains("original_max_position_embeddings") &&
            config["rope_scaling"].contains("long_factor")) {
            config["original_max_position_embeddings"] =
                config["rope_scaling"]["original_max_position_embeddings"];
        }
    }
    if (family.windows.exist) add_windows(model, family, config);
    if (family.recurrent) add_layer_types(m, prefix, config);
    add_flags(model, family, config);
    config["tie_word_embeddings"] = model.find("output.weight") == nullptr;
    config["torch_dtype"] = torch_dtype(main_format);
    config["use_cache"] = true;
    if (const MetadataValue* bos = m.find("generation.bos_token_id")) config["bos_token_id"] = to_json(*bos);
    if (const auto* eos = m.get_ints("generation.eos_token_ids"); eos != nullptr && !eos->empty()) {
        config["eos_token_id"] = eos->front();
    }
    return config;
}

Json make_generation_config(const Metadata& m) {
    Json out = Json::object();
    for (const char* key :
         {"bos_token_id", "do_sample", "temperature", "top_k", "top_p", "min_p", "repetition_penalty"}) {
        if (const MetadataValue* value = m.find(std::string("generation.") + key)) out[key] = to_json(*value);
    }
    if (const auto* eos = m.get_ints("generation.eos_token_ids"); eos != nullptr && !eos->empty()) {
        out["eos_token_id"] = eos->size() == 1 ? Json(eos->front()) : Json(*eos);
    }
    return out;
}

}  // namespace smelt
