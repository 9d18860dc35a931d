// What Triton fills in by itself (version_policy, instance_group, optimization with its defaults) is taken as
// it is; what would change answers or speed and is not done here is refused.
#include "triton/model_config.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <functional>
#include <thread>

#include "backend/backend.h"
#include "base/digest.h"
#include "base/edit_distance.h"
#include "base/number.h"
#include "files/conversion.h"
#include "files/writers.h"
#include "server/dialects/kserve_request.h"
#include "text/tokenizer.h"
#include "text/vocabulary.h"
#include "triton/text_protobuf.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

// Members of an object by their names, each with what reads it.
struct Key {
    std::string_view name;
    std::function<void(const std::string& at, const Json& value)> read;
};

void check_message(const std::string& at, const Json& v) {
    if (!v.is_object()) throw Error("{}: expected a message, found {}", at, to_string(v).substr(0, 60));
}

void read_keys(const std::string& at, const Json& object, const std::vector<Key>& keys) {
    check_message(at, object);
    for (const auto& [name, value] : object.items()) {
        const auto key = std::ranges::find(keys, name, &Key::name);
        if (key != keys.end()) {
            key->read(at.empty() ? name : at + "." + name, value);
            continue;
        }
        std::vector<std::string> names;
        for (const Key& k : keys) names.emplace_back(k.name);
        const std::string nearest = nearest_word(name, names);
        throw Error("{}: no such key here{}", at.empty() ? name : at + "." + name,
                    nearest.empty() ? "" : fmt::format("; did you mean {}?", nearest));
    }
}

std::string text_of(const std::string& at, const Json& v) {
    if (!v.is_string()) throw Error("{}: expected a string, found {}", at, to_string(v).substr(0, 60));
    return v.get<std::string>();
}

int integer_of(const std::string& at, const Json& v, int low, int high) {
    const auto n = v.is_number_integer() ? std::optional(v.get<int64_t>())
                   : v.is_string()       ? parse_integer<int64_t>(v.get_ref<const std::string&>())
                                         : std::nullopt;
    if (!n || *n < low || *n > high)
        throw Error("{}: expected {} to {}, found {}", at, low, high, to_string(v).substr(0, 60));
    return static_cast<int>(*n);
}

// Triton's own business.
void leave_to_triton(const std::string&, const Json&) {}

bool says_nothing(const Json& v) {
    return v.is_null() || v == "" || v == 0 || v == false || (v.is_structured() && v.empty());
}

std::function<void(const std::string&, const Json&)> refuse(std::string why) {
    return [why = std::move(why)](const std::string& at, const Json& v) {
        if (!says_nothing(v)) throw Error("{}: not supported: {}", at, why);
    };
}

bool is_here(const std::string& device) {
    for (const BackendInfo& b : list_backends()) {
        if (b.name == device) return b.missing.empty();
    }
    return false;
}

// Where the accelerators and parameters of a configuration come together.
class Reader {
 public:
    TritonConfig read(const Json& config) {
        // First, so that accelerators know whether they may fall back.
        if (const auto p = config.find("parameters"); p != config.end()) read_parameters("parameters", *p);
        read_keys("", config,
                  {{"name", [&](const auto& at, const auto& v) { config_.name = text_of(at, v); }},
                   {"platform", refuse("the backend is smelt, the platform is empty")},
                   {"backend", [&](const auto& at, const auto& v) { check_backend(at, v); }},
                   {"runtime", leave_to_triton},
                   {"version_policy", leave_to_triton},
                   {"max_batch_size",
                    [&](const auto& at, const auto& v) {
                        const int n = integer_of(at, v, 0, 1024);
                        if (n > 0) config_.open.engine.scheduler.max_seqs = n;
                    }},
                   {"input", [&](const auto& at, const auto& v) { check_tensors(at, v, kserve_inputs()); }},
                   {"output", [&](const auto& at, const auto& v) { check_tensors(at, v, kserve_outputs()); }},
                   {"batch_input", refuse("inputs are text_input and its parameters")},
                   {"batch_output", refuse("outputs are text_output and what is about it")},
                   {"optimization", [&](const auto& at, const auto& v) { read_optimization(at, v); }},
                   {"dynamic_batching", leave_to_triton},
                   {"sequence_batching", refuse("a text_input holds the whole conversation")},
                   {"ensemble_scheduling", refuse("this is one model")},
                   {"instance_group", [&](const auto& at, const auto& v) { read_instances(at, v); }},
                   {"default_model_filename",
                    [&](const auto& at, const auto& v) { config_.file_name = text_of(at, v); }},
                   {"cc_model_filenames", refuse("one file serves every device")},
                   {"metric_tags", leave_to_triton},
                   {"parameters", leave_to_triton},  // read above
                   {"model_warmup", leave_to_triton},
                   {"model_operations", refuse("there are no custom operations")},
                   {"model_transaction_policy",
                    [&](const auto& at, const auto& v) {
                        read_keys(at, v, {{"decoupled", [&](const auto&, const auto& d) {
                                               if (!d.is_boolean())
                                                   throw Error("{}.decoupled: expected true or false", at);
                                               config_.decoupled = d == true;
                                           }}});
                    }},
                   {"model_repository_agents", leave_to_triton},
                   {"response_cache", leave_to_triton},
                   {"model_metrics", leave_to_triton}});
        choose_device();
        return std::move(config_);
    }

 private:
    static void check_backend(const std::string& at, const Json& v) {
        const std::string name = text_of(at, v);
        if (name != "smelt" && !name.empty()) throw Error("{}: expected smelt, found {}", at, name);
    }

    static void check_tensors(const std::string& at, const Json& list,
                              std::span<const KserveTensorInfo> known) {
        if (!list.is_array()) throw Error("{}: expected a list", at);
        for (const Json& t : list) {
            check_message(at, t);
            const std::string name = text_of(at + ".name", t.value("name", Json())),
                              type = text_of(at + ".data_type", t.value("data_type", Json()));
            const auto info = std::ranges::find(known, name, &KserveTensorInfo::name);
            if (info == known.end()) throw Error("{}: smelt's models have no {} {}", at, at, name);
            if (type == triton_type(info->datatype)) continue;
            throw Error("{}.{}: expected {}, found {}", at, name, triton_type(info->datatype), type);
        }
    }

    void read_optimization(const std::string& at, const Json& v) {
        read_keys(at, v,
                  {{"graph",
                    [](const auto& a, const auto& g) {
                        read_keys(a, g, {{"level", refuse("there is one way")}});
                    }},
                   {"priority", leave_to_triton},
                   {"cuda", refuse("CUDA graphs are always used")},
                   {"execution_accelerators", [&](const auto& a, const auto& e) { read_accelerators(a, e); }},
                   {"input_pinned_memory", leave_to_triton},
                   {"output_pinned_memory", leave_to_triton},
                   {"gather_kernel_buffer_threshold", leave_to_triton},
                   {"eager_batching", leave_to_triton}});
    }

    void read_accelerators(const std::string& at, const Json& v) {
        const auto each = [](auto read) {
            return [read](const std::string& a, const Json& list) {
                if (!list.is_array()) throw Error("{}: expected a list", a);
                for (const Json& one : list) {
                    check_message(a, one);
                    const std::string name = text_of(a + ".name", one.value("name", Json()));
                    for (const auto& [key, value] : one.items()) {
                        if (key != "name" && key != "parameters")
                            throw Error("{}.{}: no such key here", a, key);
                    }
                    read(a + "." + name, name, one.value("parameters", Json::object()));
                }
            };
        };
        read_keys(at, v,
                  {{"gpu_execution_accelerator",
                    each([&](const auto& a, const auto& n, const auto& p) { read_gpu(a, n, p); })},
                   {"cpu_execution_accelerator",
                    each([&](const auto& a, const auto& n, const auto& p) { read_cpu(a, n, p); })}});
    }

    // The first that is here computes.
    void read_gpu(const std::string& at, const std::string& name, const Json& parameters) {
        const bool metal = name == "mps" || name == "metal", cuda = name == "gpu" || name == "cuda";
        if (!metal && !cuda) throw Error("{}: expected mps, metal, gpu or cuda as the name", at);
        const std::string device = metal ? "metal" : "cuda";
        KvFormats kv = config_.open.kv;
        read_keys(at, parameters,
                  {{"precision", [&](const auto& a, const auto& v) { kv = precision_of(a, v); }},
                   {"use_unified_memory", [&](const auto& a, const auto& v) {
                        // Metal reads weights where their file is mapped, CUDA copies them to the card.
                        const std::string only = metal ? "true" : "false", found = text_of(a, v);
                        if (found != only)
                            throw Error("{}: expected {} on {}, found {}", a, only, device, found);
                    }}});
        if (!is_here(device)) {
            if (!falls_back_)
                throw Error(
                    "{}: the device {} is not here; the parameter PYTORCH_ENABLE_MPS_FALLBACK \"1\" lets the "
                    "CPU take its place",
                    at, device);
            config_.warnings.push_back(
                fmt::format("{}: the device {} is not here, the CPU computes", at, device));
            if (accelerator_.empty()) fallback_ = "cpu";
            return;
        }
        if (!accelerator_.empty()) return;
        accelerator_ = device;
        config_.open.kv = kv;
    }

    // Rows of the KV cache are what a precision can be chosen for; weights have that of their file.
    static KvFormats precision_of(const std::string& at, const Json& v) {
        const std::string name = text_of(at, v);
        if (name == "fp16") return parse_kv_formats("f16");
        if (name == "fp32") return parse_kv_formats("f32");
        if (name == "bf16") return parse_kv_formats("bf16");
        throw Error("{}: expected fp16, bf16 or fp32, found {}", at, name);
    }

    void read_cpu(const std::string& at, const std::string& name, const Json& parameters) {
        if (name == "cpu") {
            read_keys(
                at, parameters,
                {{"threads",
                  [&](const auto& a, const auto& v) {
                      config_.open.backend.n_threads = integer_of(a, v, 0, 1024);
                  }},
                 {"isa", [&](const auto& a, const auto& v) { config_.open.backend.isa = text_of(a, v); }},
                 {"precision", [&](const auto& a, const auto& v) { config_.open.kv = precision_of(a, v); }}});
            return;
        }
        if (name != "amx") throw Error("{}: expected amx or cpu as the name", at);
        // Apple gives its matrix unit to its own libraries alone, and these kernels are smelt's.
        read_keys(at, parameters,
                  {{"tile_size", leave_to_triton}, {"quantization_support", leave_to_triton}});
        std::string names;
        for (const auto& [key, value] : parameters.items()) names += " " + key;
        if (!falls_back_)
            throw Error(
                "{}: smelt's kernels do not use AMX; the parameter PYTORCH_ENABLE_MPS_FALLBACK \"1\" lets "
                "the "
                "CPU's own take its place",
                at);
        config_.warnings.push_back(fmt::format("{}: the CPU's own kernels compute{}{}", at,
                                               names.empty() ? "" : "; without effect:", names));
    }

    void read_instances(const std::string& at, const Json& v) {
        if (!v.is_array()) throw Error("{}: expected a list", at);
        for (const Json& group : v) {
            check_message(at, group);
            const std::string kind = text_of(at + ".kind", group.value("kind", Json("KIND_AUTO")));
            if (kind == "KIND_GPU") instances_ = "cuda";
            if (kind == "KIND_CPU") instances_ = "cpu";
            if (!says_nothing(group.value("profile", Json())))
                throw Error("{}.profile: not supported: there is one way", at);
        }
    }

    void read_parameters(const std::string& at, const Json& parameters) {
        const auto text = [](auto use) {
            return [use](const std::string& a, const Json& v) {
                if (!v.is_object() || v.size() != 1 || !v.contains("string_value"))
                    throw Error("{}: expected a string_value", a);
                use(a, text_of(a, v["string_value"]));
            };
        };
        const auto number = [text](int low, int high, auto use) {
            return text([low, high, use](const std::string& a, const std::string& v) {
                use(integer_of(a, Json(v), low, high));
            });
        };
        constexpr int many = std::numeric_limits<int>::max();
        ChatModelOptions& open = config_.open;
        read_keys(
            at, parameters,
            {{"MODEL_PATH", text([&](const auto&, const auto& v) { config_.model_path = v; })},
             {"MODEL_QUANTIZATION",
              text([&](const auto& a, const auto& v) { config_.quantization = quantization_of(a, v); })},
             {"PYTORCH_ENABLE_MPS_FALLBACK",
              text([&](const auto& a, const auto& v) { falls_back_ = integer_of(a, Json(v), 0, 1) == 1; })},
             {"DEVICE", text([&](const auto&, const auto& v) { device_ = v; })},
             {"CONTEXT", number(0, many, [&](int n) { open.n_ctx = n; })},
             {"KV_TOKENS", number(0, many, [&](int n) { open.kv_tokens = n; })},
             {"KV_FORMAT", text([&](const auto&, const auto& v) { open.kv = parse_kv_formats(v); })},
             {"THREADS", number(0, 1024, [&](int n) { open.backend.n_threads = n; })},
             {"MAX_QUEUE", number(1, 1'000'000, [&](int n) { open.engine.max_queue = n; })}});
    }

    static std::vector<Format> quantization_of(const std::string& at, const std::string& name) {
        if (name == "none" || name.empty()) return {};
        if (name == "int4") return {Format::Q4_K, Format::Q4_0};
        if (name == "int8") return {Format::Q8_0};
        if (name == "fp16") return {Format::F16};
        if (name == "bf16") return {Format::BF16};
        const auto format = format_from_name(name);
        if (format && format_info(*format).can_encode && !format_info(*format).planar) return {*format};
        throw Error(
            "{}: expected none, int4, int8, fp16, bf16 or a format that smelt quantize writes, found {}", at,
            name);
    }

    void choose_device() {
        std::string& device = config_.open.device;
        if (!device_.empty()) {
            device = device_;
        } else if (!accelerator_.empty()) {
            device = accelerator_;
        } else if (!fallback_.empty()) {
            device = fallback_;
        } else if (!instances_.empty()) {
            device = instances_;
        }
        if (!config_.open.backend.isa.empty() && device == "auto") device = "cpu";
    }

    TritonConfig config_;
    bool falls_back_ = false;
    std::string device_, accelerator_, fallback_, instances_;
};

std::string tensor_texts(const char* field, const Json& tensors) {
    std::string text;
    for (const Json& t : tensors) {
        text +=
            fmt::format("{} {{ name: {} data_type: {} dims: [ {} ]{} }}\n", field,
                        text_protobuf_string(t["name"].get<std::string>()), t["data_type"].get<std::string>(),
                        t["dims"][0].get<int>(), t.contains("optional") ? " optional: true" : "");
    }
    return text;
}

}  // namespace

TritonConfig read_triton_config(const Json& config) {
    if (!config.is_object()) throw Error("config: expected a message, found {}", config.type_name());
    return Reader().read(config);
}

fs::path triton_model_path(const TritonConfig& config, const fs::path& model_folder, uint64_t version) {
    if (!config.model_path.empty()) return model_folder / config.model_path;
    const fs::path folder = model_folder / std::to_string(version);
    if (!config.file_name.empty()) return folder / config.file_name;
    if (fs::exists(folder / "config.json")) return folder;
    std::vector<fs::path> files;
    if (fs::is_directory(folder)) {
        for (const auto& entry : fs::directory_iterator(folder)) {
            const fs::path extension = entry.path().extension();
            if (extension == ".gguf" || extension == ".bin") files.push_back(entry.path());
        }
    }
    if (files.size() == 1) return files.front();
    throw Error(
        "{}: expected a Hugging Face folder or one .gguf or .bin, found {} files; the parameter MODEL_PATH "
        "or default_model_filename says which",
        folder.string(), files.size());
}

namespace {

// Other where a file of the model, or its folder, was written anew.
std::string state_of_files(const fs::path& model) {
    std::vector<fs::path> files;
    if (fs::is_directory(model)) {
        for (const auto& entry : fs::directory_iterator(model)) {
            if (entry.is_regular_file()) files.push_back(entry.path());
        }
        std::ranges::sort(files);
    } else {
        files.push_back(model);
    }
    std::string text;
    for (const fs::path& f : files)
        text += fmt::format("\n{} {} {}", f.filename().string(), fs::file_size(f),
                            fs::last_write_time(f).time_since_epoch().count());
    return text;
}

}  // namespace

fs::path quantized_model(const TritonConfig& config, const fs::path& model, const fs::path& cache) {
    if (config.quantization.empty()) return model;
    const auto file = open_model(model);
    const auto fits = [&](Format f) {
        return std::ranges::all_of(file->tensors, [&](const TensorView& t) {
            return t.shape.size() < 2 || t.row_len() % format_info(f).block_len == 0;
        });
    };
    if (std::ranges::find(config.quantization, main_format(*file)) != config.quantization.end()) return model;
    const auto format = std::ranges::find_if(config.quantization, fits);
    if (format == config.quantization.end()) {
        throw Error("parameters.MODEL_QUANTIZATION: rows of {} are no whole blocks of {}", model.string(),
                    to_string(config.quantization.back()));
    }
    Digest hash(Digest::Kind::sha256);
    hash.add(fmt::format("{}{}", fs::weakly_canonical(model).string(), state_of_files(model)));
    const fs::path target = cache / fmt::format("{}-{}.gguf", hash.hex().substr(0, 16), to_string(*format));
    if (fs::exists(target)) return target;
    fs::create_directories(cache);
    write_gguf(
        *file, target, gguf_vocabulary(*file),
        {.format = *format, .n_threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()))});
    return target;
}

std::string write_triton_config(const TritonConfigChoice& c) {
    const auto parameter = [](const char* key, const std::string& value) {
        return fmt::format("parameters {{ key: \"{}\" value: {{ string_value: {} }} }}\n", key,
                           text_protobuf_string(value));
    };
    std::string text = fmt::format("name: {}\nbackend: \"smelt\"\nmax_batch_size: {}\n",
                                   text_protobuf_string(c.name), c.max_batch_size);
    text += "# Several responses to a request that says stream; one to any other.\n";
    text += "model_transaction_policy { decoupled: true }\n";
    text += "# One instance is enough: smelt batches what is under way by itself.\n";
    text += "instance_group [ { count: 1 kind: KIND_MODEL } ]\n";
    text += parameter("MODEL_PATH", c.model_path);
    if (c.device != "auto") text += parameter("DEVICE", c.device);
    if (!c.quantization.empty()) text += parameter("MODEL_QUANTIZATION", c.quantization);
    if (c.n_ctx > 0) text += parameter("CONTEXT", std::to_string(c.n_ctx));
    return text + tensor_texts("input", triton_tensors(kserve_inputs())) +
           tensor_texts("output", triton_tensors(kserve_outputs()));
}

}  // namespace smelt
