// smelt inspect: what a model file holds, and what it lacks to run here.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "apps/hub_model.h"
#include "apps/verbs.h"
#include "base/error.h"
#include "base/json.h"
#include "base/units.h"
#include "files/families.h"
#include "files/model_file.h"
#include "files/sizes.h"
#include "model/model.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

struct InspectOptions {
    std::string model, family;
    bool tensors = false, json = false;
};

struct FormatSum {
    uint64_t n_tensors = 0, n_weights = 0, n_bytes = 0;
};

struct Report {
    const ModelFile& model;
    std::string architecture;
    std::map<std::string, FormatSum> formats;
    uint64_t n_weights = 0;
    std::vector<std::string> missing;
    std::string cannot_run;     // why; empty: it can
    int64_t n_tokens = -1;      // of the vocabulary
    std::string no_vocabulary;  // why; empty: there is one
};

uint64_t count(const std::vector<int64_t>& shape) {
    uint64_t n = 1;
    for (const int64_t d : shape) n *= static_cast<uint64_t>(d);
    return n;
}

std::string reason_it_cannot_run(const Report& r) {
    const auto known = list_architectures();
    if (std::ranges::find(known, r.architecture) == known.end()) {
        return fmt::format("architecture {} is not known to this build ({})", r.architecture,
                           fmt::join(known, ", "));
    }
    if (!r.model.unsupported.empty()) {
        const UnsupportedTensor& t = r.model.unsupported.front();
        return fmt::format("tensor {} has number format {}, which this build cannot decode", t.name, t.type);
    }
    if (!r.missing.empty()) return fmt::format("tensor {} is missing", r.missing.front());
    if (!r.model.refused.empty()) return r.model.refused.front();
    return {};
}

Report make_report(const ModelFile& model) {
    const std::string* architecture = model.metadata.get_string("general.architecture");
    Report r{
        model, architecture == nullptr ? "(not named)" : *architecture, {}, 0, missing_tensors(model), {}, -1,
        {}};
    const auto add = [&](const std::string& format, const std::vector<int64_t>& shape, uint64_t n_bytes) {
        FormatSum& sum = r.formats[format];
        ++sum.n_tensors;
        sum.n_weights += count(shape);
        sum.n_bytes += n_bytes;
        r.n_weights += count(shape);
    };
    for (const TensorView& t : model.tensors) add(std::string(to_string(t.format)), t.shape, t.n_bytes());
    for (const UnsupportedTensor& t : model.unsupported) add(t.type, t.shape, t.n_bytes);
    r.cannot_run = reason_it_cannot_run(r);
    try {
        r.n_tokens = load_tokenizer(model).n_tokens();
    } catch (const Error& e) {
        r.no_vocabulary = e.what();
    }
    return r;
}

Json to_json(const MetadataValue& value) {
    return std::visit([](const auto& v) { return Json(v); }, value);
}

// Long lists (vocabularies, merges) and texts (templates) as their size.
Json shortened(const MetadataValue& value) {
    constexpr size_t longest_list = 16, longest_text = 200;
    return std::visit(
        [&](const auto& v) -> Json {
            if constexpr (requires { v.size(); }) {
                using T = std::decay_t<decltype(v)>;
                constexpr bool is_text = std::is_same_v<T, std::string>;
                if (v.size() > (is_text ? longest_text : longest_list)) {
                    return fmt::format("({} {})", v.size(), is_text ? "bytes" : "items");
                }
            }
            return to_json(value);
        },
        value);
}

Json tensors_json(const ModelFile& model) {
    Json list = Json::array();
    for (const TensorView& t : model.tensors) {
        list.push_back({{"name", t.name},
                        {"format", std::string(to_string(t.format))},
                        {"shape", t.shape},
                        {"bytes", t.n_bytes()}});
    }
    for (const UnsupportedTensor& t : model.unsupported) {
        list.push_back({{"name", t.name}, {"format", t.type}, {"shape", t.shape}, {"bytes", t.n_bytes}});
    }
    return list;
}

void print_json(const Report& r, bool with_tensors) {
    const ModelFile& model = r.model;
    Json formats = Json::object(), metadata = Json::object();
    for (const auto& [name, sum] : r.formats) {
        formats[name] = {{"tensors", sum.n_tensors}, {"parameters", sum.n_weights}, {"bytes", sum.n_bytes}};
    }
    Json::object_t& members = metadata.get_ref<Json::object_t&>();
    for (const auto& [key, value] : model.metadata.values()) members.emplace_back(key, shortened(value));
    Json out = {{"path", model.path.string()},
                {"container", model.container_version},
                {"architecture", r.architecture},
                {"parameters", r.n_weights},
                {"bytes", model.n_bytes()},
                {"formats", formats},
                {"vocabulary", r.n_tokens < 0 ? Json() : Json(r.n_tokens)},
                {"chat_template", model.metadata.find("tokenizer.chat_template") != nullptr},
                {"runs", r.cannot_run.empty()},
                {"why_not", r.cannot_run.empty() ? Json() : Json(r.cannot_run)},
                {"missing", r.missing},
                {"notes", model.notes},
                {"refused", model.refused},
                {"metadata", metadata}};
    if (with_tensors) out["tensors"] = tensors_json(model);
    fmt::print("{}\n", to_string(out));
}

void print_line(const char* label, const std::string& text) {
    fmt::print("{:<14}{}\n", label, text);
}

std::string shape_text(const Report& r) {
    const auto get = [&](const char* key) {
        const MetadataValue* value = r.model.metadata.find(r.architecture + "." + key);
        return value == nullptr ? std::string("?") : to_string(shortened(*value));
    };
    return fmt::format("{} layers, dim {}, ffn {}, {} heads ({} kv) of {}, vocabulary {}, context {}",
                       get("block_count"), get("embedding_length"), get("feed_forward_length"),
                       get("attention.head_count"), get("attention.head_count_kv"),
                       get("attention.key_length"), get("vocab_size"), get("context_length"));
}

std::string values_text(const Metadata& metadata, const std::string& prefix) {
    std::string text;
    for (const auto& [key, value] : metadata.values()) {
        if (!key.starts_with(prefix)) continue;
        text += fmt::format("{}{} {}", text.empty() ? "" : ", ", key.substr(prefix.size()),
                            to_string(shortened(value)));
    }
    return text.empty() ? "none" : text;
}

std::string template_text(const Metadata& metadata) {
    std::vector<std::string> names;
    const std::string key = "tokenizer.chat_template";
    for (const auto& [name, value] : metadata.values()) {
        if (!name.starts_with(key) || !std::holds_alternative<std::string>(value)) continue;
        names.push_back(fmt::format("{} ({} bytes)", name == key ? "default" : name.substr(key.size() + 1),
                                    std::get<std::string>(value).size()));
    }
    return names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "));
}

void print_text(const Report& r, bool with_tensors) {
    const ModelFile& model = r.model;
    print_line("model", fmt::format("{} ({})", model.path.string(), model.container_version));
    print_line("architecture", r.architecture);
    print_line("shape", shape_text(r));
    print_line("parameters",
               fmt::format("{} in {} tensors, {}", count_text(r.n_weights),
                           model.tensors.size() + model.unsupported.size(), bytes_text(model.n_bytes())));
    for (const auto& [name, sum] : r.formats) {
        print_line("", fmt::format("{:<11}{} in {} tensors, {}", name, count_text(sum.n_weights),
                                   sum.n_tensors, bytes_text(sum.n_bytes)));
    }
    print_line("rope", values_text(model.metadata, r.architecture + ".rope."));
    print_line("vocabulary", r.no_vocabulary.empty() ? fmt::format("{} tokens", r.n_tokens)
                                                     : fmt::format("none: {}", r.no_vocabulary));
    print_line("chat template", template_text(model.metadata));
    print_line("generation", values_text(model.metadata, "generation."));
    if (!r.missing.empty()) {
        print_line("missing", fmt::format("{} tensors, first {}", r.missing.size(), r.missing.front()));
    }
    for (const std::string& note : model.notes) print_line("note", note);
    for (const std::string& refused : model.refused) print_line("not known", refused);
    print_line("runs here", r.cannot_run.empty() ? "yes" : "no: " + r.cannot_run);
    if (!with_tensors) return;
    const auto print_tensor = [](const std::string& name, std::string_view format,
                                 const std::vector<int64_t>& shape, uint64_t n_bytes) {
        fmt::print("{:<40} {:<11} {:>20} {:>12}\n", name, format, fmt::format("({})", fmt::join(shape, ", ")),
                   bytes_text(n_bytes));
    };
    for (const TensorView& t : model.tensors) print_tensor(t.name, to_string(t.format), t.shape, t.n_bytes());
    for (const UnsupportedTensor& t : model.unsupported) print_tensor(t.name, t.type, t.shape, t.n_bytes);
}

// A family's table as the spec that scripts/make_tiny_model.py takes: config.json without sizes, which keys
// they are under, and its tensors with shapes in those keys.
void print_family(const std::string& model_type) {
    const Family* family = family_of_model_type(model_type);
    if (family == nullptr) {
        std::vector<std::string_view> known;
        for (const Family* f : all_families()) known.push_back(f->model_type);
        throw Error("family {}: not known; known are {}", model_type, fmt::join(known, ", "));
    }
    Json config = {{"architectures", {std::string(family->hf_class)}}, {"model_type", model_type}};
    config.update(parse_json(family->must, "must"));
    config["tie_word_embeddings"] = family->tied;
    if (family->recurrent) config["layer_types"] = {"linear_attention", "full_attention"};
    Json keys = Json::object(), tensors = Json::object();
    for (const ConfigKey& key : family->config) {
        if (key.type == KeyType::integer && !key.hf.empty()) {
            keys[std::string(key.hf)] = std::string(key.size.empty() ? key.gguf : key.size);
        }
    }
    for (const TensorRule& rule : family->tensors) {
        if (rule.hf.empty() || !rule.flag.empty() || rule.presence == Presence::optional) continue;
        if (rule.presence == Presence::own_head && family->tied) continue;
        std::string name(rule.hf);
        for (const char* hole : {"{layer}", "{expert}"}) {
            if (const size_t at = name.find("{}"); at != std::string::npos) name.replace(at, 2, hole);
        }
        std::vector<std::string> shape = spelled_out(*family, rule.shape);
        if (rule.role == TensorRole::conv1d) std::ranges::reverse(shape);
        if (has_experts_apart(rule)) shape.erase(shape.begin());
        if (rule.role == TensorRole::channels) shape.insert(shape.begin() + 1, "1");
        const bool is_recurrent =
            rule.presence == Presence::recurrent_layers || rule.presence == Presence::hugging_face_recurrent;
        const char* layers = rule.presence == Presence::dense_layers && family->mixture ? "dense"
                             : rule.presence == Presence::expert_layers                 ? "sparse"
                             : rule.presence == Presence::attention_layers              ? "attention"
                             : is_recurrent                                             ? "recurrent"
                                                                                        : "all";
        tensors[name] = {{"shape", shape}, {"layers", layers}};
    }
    fmt::print("{}\n", Json{{"config", config}, {"sizes", keys}, {"tensors", tensors}}.dump(2));
}

}  // namespace

Verb add_inspect(CLI::App& smelt) {
    auto o = std::make_shared<InspectOptions>();
    CLI::App* verb = smelt.add_subcommand("inspect", "Show what a model file holds and what it lacks");
    verb->alias("show");
    CLI::Option* argument = add_model_argument(*verb, o->model);
    verb->add_option("--family", o->family, "Print what smelt knows of a family instead (its model_type)")
        ->excludes(argument);
    verb->add_flag("--tensors", o->tensors, "List every tensor");
    verb->add_flag("--json", o->json, "Print as JSON");
    verb->footer(
        "Examples:\n  smelt inspect models/demo-23m\n  smelt inspect model.gguf --tensors\n"
        "  smelt inspect model.gguf --json | python3 -m json.tool\n  smelt inspect --family qwen3_moe");
    return {verb, [o] {
                if (!o->family.empty()) return print_family(o->family);
                if (o->model.empty()) throw CLI::RequiredError("MODEL");
                const auto model = open_model(local_model(o->model), Weights::listed);
                const Report report = make_report(*model);
                if (o->json) {
                    print_json(report, o->tensors);
                } else {
                    print_text(report, o->tensors);
                }
            }};
}

}  // namespace smelt
