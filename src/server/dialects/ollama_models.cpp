// What Ollama's clients ask before they chat: which models there are, what they can, what is loaded.
#include <openssl/sha.h>

#include "base/ascii.h"
#include "files/conversion.h"
#include "server/dialects/make_job.h"
#include "server/dialects/ollama_request.h"
#include "server/routes.h"

namespace smelt {

namespace {

// The interface that these routes follow; clients compare it with the one they need.
constexpr const char* interface_version = "0.12.6";

std::string container_name(Container c) {
    switch (c) {
        case Container::gguf:
            return "gguf";
        case Container::hugging_face:
            return "safetensors";
        case Container::onnx:
            return "onnx";
        case Container::qwen3c:
            break;
    }
    return "qwen3.c";
}

std::string n_elements_text(const ModelFile& file) {
    double n = 0;
    for (const TensorView& t : file.tensors) n += static_cast<double>(t.n_elements());
    return n >= 1e9 ? fmt::format("{:.1f}B", n / 1e9) : fmt::format("{:.2f}M", n / 1e6);
}

// As Ollama spells it: "Q8_0".
std::string format_text(const ModelFile& file) {
    return ascii_upper(to_string(main_format(file)));
}

Json details(const LoadedModel* loaded) {
    if (loaded == nullptr) {
        return {{"format", ""},
                {"family", ""},
                {"families", nullptr},
                {"parameter_size", ""},
                {"quantization_level", ""}};
    }
    const ModelFile& file = loaded->chat().file();
    const std::string& family = loaded->chat().model().config().architecture;
    return {{"parent_model", ""},
            {"format", container_name(file.container)},
            {"family", family},
            {"families", {family}},
            {"parameter_size", n_elements_text(file)},
            {"quantization_level", format_text(file)}};
}

// Stands for what is served under the name; not the hash of a file, which may be hundreds of gigabytes.
std::string digest(const ServedModel& m) {
    const std::string text = fmt::format("{}:{}:{}", m.name, m.spec.path.string(), m.weight_bytes.load());
    unsigned char hash[SHA256_DIGEST_LENGTH];
    SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash);
    std::string hex;
    for (const unsigned char byte : hash) hex += fmt::format("{:02x}", byte);
    return hex;
}

std::string time_text(std::time_t t) {
    return ollama_time(std::chrono::system_clock::from_time_t(t));
}

Json model_json(const ServedModel& m, const LoadedModel* loaded) {
    const std::string name = m.name.find(':') == std::string::npos ? m.name + ":latest" : m.name;
    return {{"name", name},
            {"model", name},
            {"size", m.weight_bytes.load()},
            {"digest", digest(m)},
            {"details", details(loaded)}};
}

}  // namespace

void ollama_version(Call& call) {
    call.exchange->send({.body = to_string(Json{{"version", interface_version}})});
}

void ollama_tags(Call& call) {
    Json models = Json::array();
    for (const auto& m : call.server.models.all()) {
        Json entry = model_json(*m, m->loaded().get());
        entry["modified_at"] = time_text(m->load_time);
        models.push_back(std::move(entry));
    }
    call.exchange->send({.body = to_string(Json{{"models", std::move(models)}})});
}

void ollama_ps(Call& call) {
    Json models = Json::array();
    for (const auto& m : call.server.models.all()) {
        const auto loaded = m->loaded();
        if (loaded == nullptr) continue;
        Json entry = model_json(*m, loaded.get());
        const bool on_cpu = std::string_view(loaded->chat().backend().name()) == "cpu";
        entry["size_vram"] = on_cpu ? 0 : m->weight_bytes.load();
        entry["context_length"] = loaded->chat().n_ctx();
        // It stays until it was idle for its time; without one, for good.
        const auto idle =
            m->spec.idle_unload.count() > 0 ? m->spec.idle_unload : std::chrono::hours(24 * 365);
        entry["expires_at"] = ollama_time(std::chrono::system_clock::now() + idle);
        models.push_back(std::move(entry));
    }
    call.exchange->send({.body = to_string(Json{{"models", std::move(models)}})});
}

void ollama_show(Call& call) {
    const ModelUse model = choose_model(
        call.server, {.model = ollama_name(get<std::string>(call.body, "model").value_or(""))}, call.key);
    const ChatModel& chat = model.chat();
    const ModelConfig& config = chat.model().config();
    const SamplingParams& s = chat.default_sampling();
    const std::string source = chat.has_template() ? chat.template_source() : "";
    const auto mentions = [&](const char* word) { return source.find(word) != std::string::npos; };
    Json capabilities = {"completion", "embedding"};
    if (chat.takes_pictures()) capabilities.push_back("vision");
    if (mentions("tools")) capabilities.push_back("tools");
    if (mentions("enable_thinking") || mentions("reasoning_effort")) capabilities.push_back("thinking");
    const auto key = [&](const char* name) { return fmt::format("{}.{}", config.architecture, name); };
    Json body = {{"modelfile", ""},
                 {"parameters", fmt::format("temperature {}\ntop_k {}\ntop_p {}\nmin_p {}", s.temperature,
                                            s.top_k, s.top_p, s.min_p)},
                 {"template", source},
                 {"details", details(model.loaded.get())},
                 {"model_info",
                  {{"general.architecture", config.architecture},
                   {key("context_length"), chat.n_ctx()},
                   {key("embedding_length"), config.dim},
                   {key("block_count"), config.n_layers},
                   {key("attention.head_count"), config.n_heads},
                   {key("attention.head_count_kv"), config.n_kv_heads},
                   {key("vocab_size"), config.vocab_size}}},
                 {"capabilities", std::move(capabilities)},
                 {"modified_at", time_text(model.served->load_time)}};
    if (!call.warnings.empty()) body["warnings"] = call.warnings;
    call.exchange->send({.body = to_string(body)});
}

}  // namespace smelt
