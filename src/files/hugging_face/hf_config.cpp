// config.json, generation_config.json and tokenizer_config.json -> metadata under GGUF's names.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "base/json.h"
#include "files/families.h"
#include "files/limits.h"
#include "files/readers.h"

namespace smelt {

namespace {

// A JSON object of a config file with typed look-ups; null counts as missing.
struct Section {
    const Json& json;
    std::string source;  // "folder/config.json: "

    const Json* find(std::string_view key) const {
        const auto it = json.find(std::string(key));
        return it == json.end() || it->is_null() ? nullptr : &*it;
    }

    [[noreturn]] void fail(std::string_view key, std::string_view expected) const {
        throw Error("{}: {}: expected {}, found {}", source, key, expected,
                    to_string(*find(key)).substr(0, 60));
    }

    // 28.0 is an integer too: some tools write all numbers so.
    static std::optional<int64_t> as_integer(const Json& value) {
        constexpr double largest = 9007199254740992;  // up to which a double holds every integer
        if (value.is_number_float()) {
            const auto real = value.get<double>();
            if (!(std::fabs(real) <= largest) || real != std::floor(real)) return std::nullopt;
            return static_cast<int64_t>(real);
        }
        const bool fits = value.is_number_integer() &&
                          (!value.is_number_unsigned() ||
                           value.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()});
        return fits ? std::optional(value.get<int64_t>()) : std::nullopt;
    }

    std::optional<int64_t> integer(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        const auto number = as_integer(*value);
        if (!number) fail(key, "an integer");
        return number;
    }

    // The one of a list as well.
    std::optional<int64_t> only_integer(std::string_view key) const {
        const auto list = integers(key);
        if (!list || list->empty()) return std::nullopt;
        if (list->size() > 1) fail(key, "one integer");
        return list->front();
    }

    std::optional<double> real(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_number() || !std::isfinite(value->get<double>())) fail(key, "a number");
        return value->get<double>();
    }

    std::optional<bool> boolean(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_boolean()) fail(key, "true or false");
        return value->get<bool>();
    }

    std::optional<std::string> string(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_string()) fail(key, "a string");
        return check_name(value->get<std::string>(), key, source);
    }

    std::optional<Section> object(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_object()) fail(key, "an object");
        return Section{*value, source + ": " + std::string(key)};
    }

    std::optional<std::vector<std::string>> strings(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        if (!value->is_array()) fail(key, "a list of strings");
        std::vector<std::string> result;
        for (const Json& item : *value) {
            if (!item.is_string()) fail(key, "a list of strings");
            result.push_back(item.get<std::string>());
        }
        return result;
    }

    std::optional<std::vector<double>> reals(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        std::vector<double> result;
        for (const Json& item : value->is_array() ? *value : Json::array()) {
            if (!item.is_number() || !std::isfinite(item.get<double>())) fail(key, "a list of numbers");
            result.push_back(item.get<double>());
        }
        if (result.empty()) fail(key, "a list of numbers");
        return result;
    }

    // One integer or a list of them.
    std::optional<std::vector<int64_t>> integers(std::string_view key) const {
        const Json* value = find(key);
        if (value == nullptr) return std::nullopt;
        std::vector<int64_t> result;
        for (const Json& item : value->is_array() ? *value : Json::array({*value})) {
            const auto number = as_integer(item);
            if (!number) fail(key, "an integer or a list of integers");
            result.push_back(*number);
        }
        return result;
    }
};

template <class T>
void set(Metadata& metadata, std::string key, std::optional<T> value) {
    if (value) metadata.set(std::move(key), std::move(*value));
}

// What the attention of a window's layers is rotated with, where it is not what the others are.
void read_local_rope(const Section& config, const std::optional<Section>& parameters,
                     const std::string& prefix, Metadata& metadata) {
    const auto local = parameters ? parameters->object("sliding_attention") : std::nullopt;
    auto theta = local ? local->real("rope_theta") : config.real("rope_local_base_freq");
    if (local) {
        const auto type = local->string("rope_type");
        if (type && *type != "default") local->fail("rope_type", "default");
    }
    set(metadata, prefix + "rope.freq_base_swa", theta);
}

// Divisors of the frequencies, for texts up to the first context and beyond. Of the sums of transformers'
// longrope the factor on cos and sin.
void read_longrope(const Section& config, const Section& rope, const std::string& scaling,
                   std::optional<int64_t> original, Metadata& metadata) {
    for (const char* key : {"short_factor", "long_factor"}) {
        const auto list = rope.reals(key);
        if (!list) throw Error("{}: {}: missing, this kind of scaling needs it", rope.source, key);
        metadata.set(fmt::format("smelt.rope.{}", key), *list);
    }
    metadata.set(scaling + "type", std::string("longrope"));
    if (rope.find("attention_factor") != nullptr || !original) return;
    const auto length = static_cast<double>(config.integer("max_position_embeddings").value_or(*original));
    const auto factor = rope.real("factor").value_or(length / static_cast<double>(*original));
    metadata.set(
        scaling + "attn_factor",
        factor > 1 ? std::sqrt(1 + std::log(factor) / std::log(static_cast<double>(*original))) : 1.0);
}

// Old configs have rope_theta and rope_scaling at top level, new ones all of it in rope_parameters.
void read_rope(const Section& config, const Family* family, const std::string& prefix, Metadata& metadata) {
    const bool is_new = config.find("rope_parameters") != nullptr;
    const auto all = config.object(is_new ? "rope_parameters" : "rope_scaling");
    const bool is_local = family != nullptr && family->local_rotary;
    if (is_local) read_local_rope(config, all, prefix, metadata);
    const auto full = is_local && all ? all->object("full_attention") : std::nullopt;
    const auto& rope = full ? full : all;
    std::optional<double> theta = rope ? rope->real("rope_theta") : std::nullopt;
    if (!theta) theta = config.real("rope_theta");
    set(metadata, prefix + "rope.freq_base", theta);
    std::optional<double> fraction = rope ? rope->real("partial_rotary_factor") : std::nullopt;
    if (!fraction) fraction = config.real("partial_rotary_factor");
    if (fraction && *fraction != 1) metadata.set(prefix + "rope.partial_factor", *fraction);
    if (!rope) return;
    if (auto sections = rope->integers("mrope_section");
        sections && family != nullptr && family->tower != nullptr) {
        sections->resize(4);
        metadata.set(prefix + "rope.dimension_sections", std::move(*sections));
    }

    auto type = rope->string("rope_type");
    if (!type) type = rope->string("type");
    if (!type && rope->find("factor") != nullptr) {
        throw Error("{}: rope_type: expected one for this factor, found nothing", rope->source);
    }
    if (!type || *type == "default") return;
    const std::string scaling = prefix + "rope.scaling.";
    metadata.set(scaling + "type", *type);
    const auto factor = rope->real("factor");
    set(metadata, scaling + "factor", factor);
    auto original = rope->integer("original_max_position_embeddings");
    if (!original) original = config.integer("original_max_position_embeddings");
    if (!original) original = config.integer("max_position_embeddings");  // as transformers
    set(metadata, scaling + "original_context_length", original);
    if (*type == "longrope" || *type == "su") read_longrope(config, *rope, scaling, original, metadata);
    // With latent attention, cos and sin stay as they are and scores are scaled; a config that says otherwise
    // is refused (files/known_keys.cpp).
    if (const auto mscale = rope->real("mscale_all_dim"); mscale && *mscale != 0 && *type == "yarn")
        metadata.set(scaling + "yarn_log_multiplier", 0.1 * *mscale);
    set(metadata, scaling + "low_freq_factor", rope->real("low_freq_factor"));
    set(metadata, scaling + "high_freq_factor", rope->real("high_freq_factor"));
    set(metadata, scaling + "yarn_beta_fast", rope->real("beta_fast"));
    set(metadata, scaling + "yarn_beta_slow", rope->real("beta_slow"));
    set(metadata, scaling + "truncate", rope->boolean("truncate"));
    if (const auto attention_factor = rope->real("attention_factor")) {
        // Hugging Face has the whole factor, GGUF the part beyond YaRN's own.
        const double own = *type == "yarn" && factor && *factor > 1 ? 0.1 * std::log(*factor) + 1 : 1;
        metadata.set(scaling + "attn_factor", *attention_factor / own);
    }
}

// Which layers have the window is a list of names in new configs; old ones say from which layer on.
void read_windows(const Section& config, const Windows& windows, const std::string& prefix,
                  Metadata& metadata) {
    const auto window = config.integer("sliding_window");
    if (!windows.exist || !window) return;
    if (windows.opt_in && !config.boolean("use_sliding_window").value_or(false)) return;
    metadata.set(prefix + "attention.sliding_window", *window);
    std::vector<int64_t> pattern;
    const auto types = windows.layer_types ? config.strings("layer_types") : std::nullopt;
    if (types) {
        for (const std::string& type : *types) {
            if (type != "sliding_attention" && type != "full_attention") {
                config.fail("layer_types", "sliding_attention or full_attention");
            }
            pattern.push_back(type == "sliding_attention");
        }
    } else if (windows.period > 0) {
        auto period = config.integer("sliding_window_pattern");
        if (!period) period = config.integer("_sliding_window_pattern");
        const int64_t n = config.integer("num_hidden_layers").value_or(0),
                      p = period.value_or(windows.period);
        for (int64_t il = 0; p > 0 && il < std::min<int64_t>(n, limits::layers); ++il)
            pattern.push_back((il + 1) % p != 0);
    } else if (const auto first = config.integer("max_window_layers"); first && windows.from_layer) {
        const int64_t n = config.integer("num_hidden_layers").value_or(0);
        for (int64_t il = 0; il < std::min<int64_t>(n, limits::layers); ++il) pattern.push_back(il >= *first);
    }
    if (!pattern.empty()) metadata.set(prefix + "attention.sliding_window_pattern", std::move(pattern));
}

// Whether the model has the tensors that its config has a say in.
void read_flags(const Section& config, const Family& family, Metadata& metadata) {
    for (const TensorRule& rule : family.tensors) {
        if (!rule.flag.empty()) {
            set(metadata, fmt::format("smelt.{}", rule.flag), config.boolean(rule.flag));
        }
    }
}

// What the reference implementation takes where config.json is silent.
void add_defaults(const Family& family, Json& config) {
    const Json defaults = parse_json(family.defaults, "defaults");
    for (const auto& [key, value] : defaults.items()) {
        const bool said = config.contains(key) ||
                          (key == "rope_parameters" && config.contains("rope_scaling")) ||
                          (key == "num_experts" && config.contains("num_local_experts"));
        if (!said) config[key] = value;
    }
}

// Which layers are recurrent: a list of names in new configs, every n-th is not in old ones.
void read_recurrent_layers(const Section& config, const std::string& prefix, Metadata& metadata) {
    const auto n = std::min<int64_t>(config.integer("num_hidden_layers").value_or(0), limits::layers);
    std::vector<int64_t> list;
    if (const auto types = config.strings("layer_types")) {
        for (const std::string& type : *types) {
            if (type != "linear_attention" && type != "full_attention")
                config.fail("layer_types", "linear_attention or full_attention");
            list.push_back(type == "linear_attention");
        }
    } else {
        const int64_t interval = config.integer("full_attention_interval").value_or(4);
        if (interval < 1) config.fail("full_attention_interval", "1 or more");
        for (int64_t il = 0; il < n; ++il) list.push_back((il + 1) % interval != 0);
    }
    metadata.set(prefix + "attention.recurrent_layers", std::move(list));
}

// What config.json of a model with latent attention says beyond the family's table.
void read_latent(const Section& config, const std::string& prefix, Metadata& metadata) {
    // transformers 5 names each layer's kind; dense ones can only lead.
    const Json* layers = config.find("mlp_layer_types");
    if (layers == nullptr) return;
    const auto is_dense = [](const Json& kind) { return kind == "dense"; };
    const auto is_known = [&](const Json& kind) { return is_dense(kind) || kind == "sparse"; };
    if (!layers->is_array() || !std::ranges::all_of(*layers, is_known) ||
        !std::ranges::is_partitioned(*layers, is_dense)) {
        config.fail("mlp_layer_types", "a list of dense layers, then sparse ones");
    }
    metadata.set(prefix + "leading_dense_block_count",
                 static_cast<int64_t>(std::ranges::count_if(*layers, is_dense)));
}

void read_generation(const Section& s, Metadata& metadata) {
    for (const char* key : {"temperature", "top_p", "min_p", "repetition_penalty"}) {
        set(metadata, std::string("generation.") + key, s.real(key));
    }
    set(metadata, "generation.top_k", s.integer("top_k"));
    set(metadata, "generation.do_sample", s.boolean("do_sample"));
    set(metadata, "generation.eos_token_ids", s.integers("eos_token_id"));
    set(metadata, "generation.bos_token_id", s.only_integer("bos_token_id"));
}

Json parse_object(std::string_view text, const std::string& source, size_t max_bytes) {
    Json json = parse_json(text, source, {.max_bytes = max_bytes});
    if (!json.is_object()) throw Error("{}: expected a JSON object", source);
    return json;
}

}  // namespace

Json text_config_of(Json config) {
    const auto text = config.find("text_config");
    const auto type = config.find("model_type");
    if (text == config.end() || !text->is_object() || type == config.end() || !type->is_string())
        return config;
    const auto is_wrapper = [&](const Family* f) {
        return !f->wrapper_type.empty() && *type == std::string(f->wrapper_type);
    };
    const auto family = std::ranges::find_if(all_families(), is_wrapper);
    if (family == all_families().end()) return config;
    Json inner = *text;
    inner["model_type"] = std::string((*family)->model_type);
    for (const char* key : {"tie_word_embeddings", "bos_token_id", "eos_token_id", "quantization_config"}) {
        if (config.contains(key) && !inner.contains(key)) inner[key] = config[key];
    }
    return inner;
}

Metadata read_hf_config(std::string_view config_text, std::string_view generation_text,
                        const std::string& source) {
    Json json = text_config_of(parse_object(config_text, source + "/config.json", limits::config_bytes));
    const Section config{json, source + "/config.json"};
    const auto model_type = config.string("model_type");
    if (!model_type) throw Error("{}: model_type is missing", config.source);
    const Family* family = family_of_model_type(*model_type);
    if (family != nullptr) add_defaults(*family, json);
    const std::string architecture(family != nullptr ? family->architecture : *model_type);
    const std::string prefix = architecture + ".";

    Metadata metadata;
    metadata.set("general.architecture", architecture);
    if (family != nullptr) metadata.set("smelt.model_type", *model_type);
    metadata.set("smelt.rope.pairing",
                 std::string(family != nullptr && family->latent ? "interleaved" : "half"));
    static constexpr auto common = joined(decoder_config, grouped_config);
    for (const ConfigKey& key : family != nullptr ? family->config : common) {
        const std::string name = prefix + std::string(key.gguf);
        if (key.type == KeyType::integer) {
            set(metadata, name, config.integer(key.hf));
        } else if (key.type == KeyType::integers) {
            set(metadata, name, config.integers(key.hf));
        } else if (key.type == KeyType::real) {
            set(metadata, name, config.real(key.hf));
        } else {
            set(metadata, name, config.boolean(key.hf));
        }
    }
    if (family != nullptr && family->latent) {
        read_latent(config, prefix, metadata);
    } else {
        set(metadata, prefix + "attention.value_length", config.integer("head_dim"));
    }
    if (family == nullptr || family->rotary) read_rope(config, family, prefix, metadata);
    if (family != nullptr && family->recurrent) read_recurrent_layers(config, prefix, metadata);
    set(metadata, "smelt.tie_word_embeddings", config.boolean("tie_word_embeddings"));
    if (family != nullptr) {
        read_windows(config, family->windows, prefix, metadata);
        read_flags(config, *family, metadata);
        if (family->tied && !metadata.get_bool("smelt.tie_word_embeddings")) {
            metadata.set("smelt.tie_word_embeddings", true);
        }
    }

    set(metadata, "generation.eos_token_ids", config.integers("eos_token_id"));
    set(metadata, "generation.bos_token_id", config.only_integer("bos_token_id"));
    if (!generation_text.empty()) {
        const Json generation =
            parse_object(generation_text, source + "/generation_config.json", limits::config_bytes);
        read_generation({generation, source + "/generation_config.json"}, metadata);
    }
    return metadata;
}

void read_hf_chat_template(std::string_view text, const std::string& source, Metadata& metadata) {
    const Json json = parse_object(text, source, limits::tokenizer_config_bytes);
    const auto it = json.find("chat_template");
    if (it == json.end() || it->is_null()) return;
    const std::string key = "tokenizer.chat_template";
    const auto set_once = [&](const std::string& name, const std::string& value) {
        if (metadata.find(name) == nullptr) metadata.set(name, value);
    };
    if (it->is_string()) return set_once(key, it->get<std::string>());
    if (!it->is_array())
        throw Error("{}: chat_template: expected a string or a list of named templates", source);
    for (const Json& item : *it) {
        const bool named = item.is_object() && item.contains("name") && item["name"].is_string() &&
                           item.contains("template") && item["template"].is_string();
        if (!named) throw Error("{}: chat_template: expected items {{name, template}}", source);
        const auto name = check_name(item["name"].get<std::string>(), "chat_template: name", source);
        set_once(name == "default" ? key : key + "." + name, item["template"].get<std::string>());
    }
}

}  // namespace smelt
