// LoRA adapters over HTTP: llama.cpp's ids and scales, vLLM's loading and unloading. How a request chooses
// one is make_job.cpp's business.
#include "server/dialects/make_job.h"
#include "server/dialects/sampling_fields.h"
#include "server/routes.h"

namespace smelt {

namespace {

// The one that is named, or the only one.
std::shared_ptr<ServedModel> base_model(const ModelSet& models, const std::string& name) {
    if (!name.empty()) return models.find_or_throw(name);
    const auto all = models.all();
    if (all.size() == 1) return all.front();
    throw bad_request("invalid_value", "base_model_name",
                      "base_model_name: expected the model that the adapter is for, {} are served",
                      all.size());
}

void send_text(Call& call, const std::string& text) {
    call.exchange->send({.body = text, .type = "text/plain; charset=utf-8"});
}

}  // namespace

void list_adapters(Call& call) {
    const ModelUse model = choose_model(call.server, {}, call.key);
    Json list = Json::array();
    for (const auto& [spec, id] : model.loaded->adapters().list()) {
        list.push_back({{"id", id},
                        {"name", spec.name},
                        {"path", spec.path.string()},
                        {"scale", spec.is_usual ? spec.scale : 0.0f}});
    }
    call.exchange->send({.body = to_string(list)});
}

void set_adapter_scales(Call& call) {
    const ModelUse model = choose_model(call.server, {}, call.key);
    ChatRequest asked;
    asked.lora = read_lora(call.body).value_or(std::vector<std::pair<int, float>>());
    (void)adapters_of(model, asked);  // which knows them all
    model.loaded->adapters().set_usual(*asked.lora);
    call.exchange->send({.body = to_string(Json{{"success", true}})});
}

void load_adapter(Call& call) {
    const std::string name = call.body.at("lora_name"), path = call.body.at("lora_path");
    ModelSet& models = call.server.models;
    const auto base = base_model(models, get<std::string>(call.body, "base_model_name").value_or(""));
    try {
        models.load_adapter(*base, {.name = name, .path = path});
    } catch (const RequestError&) {
        throw;
    } catch (const Error& e) {
        throw bad_request("adapter_invalid", "lora_path", "{}", e.what());
    }
    send_text(call, fmt::format("Success: LoRA adapter '{}' added successfully.", name));
}

void unload_adapter(Call& call) {
    const std::string name = call.body.at("lora_name");
    const auto [model, adapter] = call.server.models.find_named(name);
    if (adapter.empty() || !call.server.models.unload_adapter(*model, adapter)) {
        throw RequestError({.status = 404,
                            .code = "adapter_not_found",
                            .message = fmt::format("no adapter {} is loaded", name.substr(0, 100)),
                            .param = "lora_name"});
    }
    send_text(call, fmt::format("Success: LoRA adapter '{}' removed successfully.", name));
}

}  // namespace smelt
