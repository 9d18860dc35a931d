// KServe v2 and Triton's extensions about the server and its models: health, metadata, configuration, and the
// repository, whose models are those that are served.
#include "server/dialects/kserve.h"
#include "server/dialects/kserve_request.h"
#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

constexpr const char* extensions[] = {"generate", "binary_tensor_data", "parameters", "model_configuration",
                                      "model_repository"};

void send_json(Call& call, const Json& body, int status = 200) {
    call.exchange->send({.status = status, .body = to_string(body)});
}

// One that rests is loaded by its next request.
bool is_ready(const ModelSet& models, const ServedModel& m) {
    const std::string_view state = models.state(m);
    return state == "ok" || state == "idle";
}

std::shared_ptr<ServedModel> model_of(const Call& call) {
    const auto model = call.server.models.find_or_throw(call.name);
    check_kserve_version(call);
    return model;
}

Json tensor_json(const KserveTensorInfo& t) {
    return {{"name", t.name}, {"datatype", t.datatype}, {"shape", {-1, t.several ? -1 : 1}}};
}

int max_batch_size(const ServedModel& m) {
    const auto loaded = m.loaded();
    return loaded == nullptr ? m.spec.open.engine.scheduler.max_seqs
                             : loaded->chat().engine().limits().max_seqs * loaded->n_replicas();
}

const CompoundType load_parameters_type = {
    .description = "object {path}", .check = check_object, .openapi = R"({"type": "object"})"};

// Of a load: the path alone; a configuration of the client's would be another model.
std::string path_of(const Json& body) {
    const Json* parameters = find_member(body, "parameters");
    if (parameters == nullptr) return "";
    for (const auto& [name, value] : parameters->items()) {
        if (name == "path" || value.is_null()) continue;
        throw bad_request("not_supported", "parameters", "parameters.{} is not supported here",
                          name.substr(0, 60));
    }
    const Json* path = find_member(*parameters, "path");
    if (path == nullptr) return "";
    check_string("parameters.path", *path, 4096);
    return *path;
}

}  // namespace

const RequestSchema kserve_index_schema = {.name = "KserveIndexRequest",
                                           .fields = {{.name = "ready",
                                                       .type = FieldType::boolean,
                                                       .doc = "Those alone that answer requests.",
                                                       .fallback = "false"}},
                                           .example = R"({"ready": true})",
                                           .may_be_empty = true};

const RequestSchema kserve_load_schema = {
    .name = "KserveLoadRequest",
    .fields = {{.name = "parameters",
                .type = FieldType::compound,
                .doc = "path: folder or file of a model that is not served yet.",
                .compound = &load_parameters_type}},
    .example = "{}",
    .may_be_empty = true};

const RequestSchema kserve_unload_schema = {
    .name = "KserveUnloadRequest",
    .fields = {{.name = "parameters",
                .type = FieldType::compound,
                .doc = "unload_dependents: no model here depends on another.",
                .compound = &any_object}},
    .example = "{}",
    .may_be_empty = true};

void kserve_server(Call& call) {
    send_json(call, {{"name", "smelt"}, {"version", call.server.version}, {"extensions", extensions}});
}

void kserve_live(Call& call) {
    send_json(call, {{"live", true}});
}

void kserve_ready(Call& call) {
    const auto models = call.server.models.all();
    const bool ready =
        std::ranges::all_of(models, [&](const auto& m) { return is_ready(call.server.models, *m); });
    send_json(call, {{"ready", ready}}, ready ? 200 : 400);
}

void kserve_model_ready(Call& call) {
    const auto model = model_of(call);
    const bool ready = is_ready(call.server.models, *model);
    send_json(call, {{"name", model->name}, {"ready", ready}}, ready ? 200 : 400);
}

void kserve_model(Call& call) {
    const auto model = model_of(call);
    Json inputs = Json::array(), outputs = Json::array();
    for (const KserveTensorInfo& t : kserve_inputs()) inputs.push_back(tensor_json(t));
    for (const KserveTensorInfo& t : kserve_outputs()) outputs.push_back(tensor_json(t));
    send_json(call, {{"name", model->name},
                     {"versions", {kserve_version}},
                     {"platform", "smelt"},
                     {"inputs", std::move(inputs)},
                     {"outputs", std::move(outputs)}});
}

void kserve_model_config(Call& call) {
    const auto model = model_of(call);
    send_json(call, {{"name", model->name},
                     {"platform", ""},
                     {"backend", "smelt"},
                     {"max_batch_size", max_batch_size(*model)},
                     {"input", triton_tensors(kserve_inputs())},
                     {"output", triton_tensors(kserve_outputs())},
                     {"model_transaction_policy", {{"decoupled", true}}}});
}

void kserve_index(Call& call) {
    const bool ready_alone = get<bool>(call.body, "ready").value_or(false);
    Json list = Json::array();
    for (const auto& m : call.server.models.all()) {
        const std::string_view state = call.server.models.state(*m);
        const bool loaded = state == "ok";
        if (ready_alone && !loaded) continue;
        list.push_back({{"name", m->name},
                        {"version", kserve_version},
                        {"state", loaded ? "READY" : "UNAVAILABLE"},
                        {"reason", loaded            ? ""
                                   : state == "idle" ? "unloaded; the next request loads it"
                                                     : state}});
    }
    send_json(call, list);
}

void kserve_load(Call& call) {
    ModelSet& models = call.server.models;
    const std::string path = path_of(call.body);
    if (path.empty() || models.find(call.name) != nullptr) {
        if (!path.empty()) {
            throw bad_request("invalid_value", "parameters.path", "parameters.path: {} is served already",
                              call.name);
        }
        models.choose({.name = models.find_or_throw(call.name)->name, .key = call.key});
        return send_json(call, Json::object());
    }
    try {
        models.load(call.name, path);
    } catch (const RequestError&) {
        throw;
    } catch (const Error& e) {
        throw bad_request("model_invalid", "parameters.path", "{}", e.what());
    }
    send_json(call, Json::object());
}

void kserve_unload(Call& call) {
    call.server.models.find_or_throw(call.name);
    call.server.models.rest(call.name);
    send_json(call, Json::object());
}

}  // namespace smelt
