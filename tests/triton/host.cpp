// What tritonserver.h and tritonbackend.h declare (github.com/triton-inference-server/core), with one mutex
// around everything.
#include "triton/host.h"

#include <dlfcn.h>

#include <chrono>
#include <cstring>
#include <stdexcept>

namespace {

std::mutex mutex;
std::condition_variable changed;
std::vector<std::string> log_lines;

constexpr int n_error_codes = 8;
enum { type_bytes = 13 };  // TRITONSERVER_TYPE_BYTES

TRITONSERVER_Error* wrong(const char* text) {
    return new TRITONSERVER_Error{1, text};
}

std::string take_error(TRITONSERVER_Error* error) {
    if (error == nullptr) return "";
    const std::unique_ptr<TRITONSERVER_Error> owned(error);
    return owned->text;
}

}  // namespace

struct TRITONBACKEND_Output {
    std::string name;
    HostOutput value;
    bool has_buffer = false;
};
struct TRITONBACKEND_ResponseFactory {
    TRITONBACKEND_Request* request;
};
struct TRITONBACKEND_Response {
    TRITONBACKEND_Request* request;
    std::vector<std::unique_ptr<TRITONBACKEND_Output>> outputs;
    std::map<std::string, std::string> parameters;
};

extern "C" {

TRITONSERVER_Error* TRITONSERVER_ErrorNew(int code, const char* text) {
    if (code < 0 || code >= n_error_codes) throw std::logic_error("an error code that is none");
    return new TRITONSERVER_Error{code, text};
}
void TRITONSERVER_ErrorDelete(TRITONSERVER_Error* error) {
    delete error;
}
const char* TRITONSERVER_ErrorMessage(TRITONSERVER_Error* error) {
    return error->text.c_str();
}
TRITONSERVER_Error* TRITONSERVER_LogMessage(int, const char*, int, const char* text) {
    const std::lock_guard lock(mutex);
    log_lines.emplace_back(text);
    return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MessageNewFromSerializedJson(TRITONSERVER_Message** message,
                                                              const char* base, size_t n) {
    *message = new TRITONSERVER_Message{std::string(base, n)};
    return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MessageDelete(TRITONSERVER_Message* message) {
    delete message;
    return nullptr;
}
TRITONSERVER_Error* TRITONSERVER_MessageSerializeToJson(TRITONSERVER_Message* message, const char** base,
                                                        size_t* n) {
    *base = message->json.data();
    *n = message->json.size();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ApiVersion(uint32_t* major, uint32_t* minor) {
    *major = 1;
    *minor = 19;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelName(TRITONBACKEND_Model* model, const char** name) {
    *name = model->name.c_str();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelVersion(TRITONBACKEND_Model* model, uint64_t* version) {
    *version = model->version;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelRepository(TRITONBACKEND_Model* model, int* type,
                                                  const char** location) {
    *type = 0;
    *location = model->folder.c_str();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelConfig(TRITONBACKEND_Model* model, uint32_t version,
                                              TRITONSERVER_Message** config) {
    if (version != 1) return wrong("there is version 1 of configurations");
    *config = new TRITONSERVER_Message{model->config};
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelAutoCompleteConfig(TRITONBACKEND_Model* model, bool* completes) {
    *completes = model->completes;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelSetConfig(TRITONBACKEND_Model* model, uint32_t,
                                                 TRITONSERVER_Message* config) {
    if (!model->completes) return wrong("the configuration is not to be completed");
    model->config = config->json;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelState(TRITONBACKEND_Model* model, void** state) {
    *state = model->state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelSetState(TRITONBACKEND_Model* model, void* state) {
    model->state = state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceModel(TRITONBACKEND_ModelInstance* instance,
                                                     TRITONBACKEND_Model** model) {
    *model = instance->model;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceState(TRITONBACKEND_ModelInstance* instance, void** state) {
    *state = instance->state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceSetState(TRITONBACKEND_ModelInstance* instance, void* state) {
    instance->state = state;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportStatistics(TRITONBACKEND_ModelInstance* instance,
                                                                TRITONBACKEND_Request* request, bool success,
                                                                uint64_t begin, uint64_t, uint64_t,
                                                                uint64_t end) {
    const std::lock_guard lock(mutex);
    if (request->n_releases > 0) throw std::logic_error("statistics of a request that was given back");
    if (success && (begin == 0 || end < begin)) throw std::logic_error("times of a request");
    (success ? instance->n_successes : instance->n_failures) += 1;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceReportBatchStatistics(TRITONBACKEND_ModelInstance* instance,
                                                                     uint64_t n, uint64_t, uint64_t, uint64_t,
                                                                     uint64_t) {
    const std::lock_guard lock(mutex);
    instance->n_rows += n;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestInputCount(TRITONBACKEND_Request* request, uint32_t* n) {
    *n = static_cast<uint32_t>(request->inputs.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestInputByIndex(TRITONBACKEND_Request* request, uint32_t i,
                                                      TRITONBACKEND_Input** input) {
    *input = &request->inputs.at(i);
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputCount(TRITONBACKEND_Request* request, uint32_t* n) {
    *n = static_cast<uint32_t>(request->outputs.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestOutputName(TRITONBACKEND_Request* request, uint32_t i,
                                                    const char** name) {
    *name = request->outputs.at(i).c_str();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestParameterCount(TRITONBACKEND_Request* request, uint32_t* n) {
    *n = static_cast<uint32_t>(request->parameters.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestParameter(TRITONBACKEND_Request* request, uint32_t i,
                                                   const char** key, int* type, const void** value) {
    const auto& [name, v] = request->parameters.at(i);
    *key = name.c_str();
    *type = static_cast<int>(v.index());
    *value = std::visit(
        [](const auto& x) -> const void* {
            if constexpr (std::is_same_v<std::decay_t<decltype(x)>, std::string>) {
                return x.c_str();
            } else {
                return &x;
            }
        },
        v);
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_RequestRelease(TRITONBACKEND_Request* request, uint32_t) {
    const std::lock_guard lock(mutex);
    ++request->n_releases;
    changed.notify_all();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InputProperties(TRITONBACKEND_Input* input, const char** name, int* type,
                                                  const int64_t** shape, uint32_t* n_dims, uint64_t* n_bytes,
                                                  uint32_t* n_buffers) {
    *name = input->name.c_str();
    *type = input->type;
    *shape = input->shape.data();
    *n_dims = static_cast<uint32_t>(input->shape.size());
    *n_bytes = 0;
    for (const std::string& b : input->buffers) *n_bytes += b.size();
    *n_buffers = static_cast<uint32_t>(input->buffers.size());
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_InputBuffer(TRITONBACKEND_Input* input, uint32_t i, const void** buffer,
                                              uint64_t* n_bytes, int* memory, int64_t* id) {
    *buffer = input->buffers.at(i).data();
    *n_bytes = input->buffers.at(i).size();
    *memory = 0;
    *id = 0;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseFactoryNew(TRITONBACKEND_ResponseFactory** factory,
                                                     TRITONBACKEND_Request* request) {
    const std::lock_guard lock(mutex);
    ++request->n_factories;
    *factory = new TRITONBACKEND_ResponseFactory{request};
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseFactoryDelete(TRITONBACKEND_ResponseFactory* factory) {
    const std::lock_guard lock(mutex);
    --factory->request->n_factories;
    delete factory;
    changed.notify_all();
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseFactoryIsCancelled(TRITONBACKEND_ResponseFactory* factory,
                                                             bool* cancelled) {
    const std::lock_guard lock(mutex);
    *cancelled = factory->request->cancelled;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseNewFromFactory(TRITONBACKEND_Response** response,
                                                         TRITONBACKEND_ResponseFactory* factory) {
    *response = new TRITONBACKEND_Response{factory->request, {}, {}};
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseDelete(TRITONBACKEND_Response* response) {
    delete response;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseSetStringParameter(TRITONBACKEND_Response* response,
                                                             const char* name, const char* value) {
    response->parameters[name] = value;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseOutput(TRITONBACKEND_Response* response,
                                                 TRITONBACKEND_Output** output, const char* name, int type,
                                                 const int64_t* shape, uint32_t n_dims) {
    auto made = std::make_unique<TRITONBACKEND_Output>();
    made->name = name;
    made->value.type = type;
    made->value.shape.assign(shape, shape + n_dims);
    *output = made.get();
    response->outputs.push_back(std::move(made));
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_OutputBuffer(TRITONBACKEND_Output* output, void** buffer, uint64_t n_bytes,
                                               int* memory, int64_t* id) {
    output->value.bytes.resize(n_bytes);
    output->has_buffer = true;
    *buffer = output->value.bytes.data();
    *memory = 0;
    *id = 0;
    return nullptr;
}
TRITONSERVER_Error* TRITONBACKEND_ResponseSend(TRITONBACKEND_Response* response, uint32_t flags,
                                               TRITONSERVER_Error* error) {
    const std::unique_ptr<TRITONBACKEND_Response> owned(response);
    const std::lock_guard lock(mutex);
    TRITONBACKEND_Request& request = *response->request;
    if (!request.responses.empty() && (request.responses.back().flags & 1) != 0)
        throw std::logic_error("a response after the last");
    HostResponse r;
    r.flags = flags;
    if (error != nullptr) {
        r.error = error->code;
        r.error_text = error->text;
    }
    r.parameters = response->parameters;
    for (const auto& output : response->outputs) {
        if (!output->has_buffer) throw std::logic_error("an output without bytes");
        r.outputs[output->name] = output->value;
    }
    request.responses.push_back(std::move(r));
    changed.notify_all();
    return nullptr;
}
}

std::string HostResponse::text(const std::string& name, size_t row) const {
    const auto it = outputs.find(name);
    if (it == outputs.end()) return "(no " + name + ")";
    const std::string& bytes = it->second.bytes;
    size_t at = 0;
    while (at + 4 <= bytes.size()) {
        uint32_t n = 0;
        std::memcpy(&n, bytes.data() + at, 4);
        if (row-- == 0) return bytes.substr(at + 4, n);
        at += 4 + n;
    }
    return "(no row)";
}

std::string with_length(const std::string& text) {
    const auto n = static_cast<uint32_t>(text.size());
    return std::string(reinterpret_cast<const char*>(&n), 4) + text;
}

TRITONBACKEND_Request& TRITONBACKEND_Request::text(const std::vector<std::string>& texts) {
    std::string bytes;
    for (const std::string& t : texts) bytes += with_length(t);
    // In two buffers, as Triton may hand it over.
    const size_t half = bytes.size() / 2;
    inputs.push_back({"text_input",
                      type_bytes,
                      {static_cast<int64_t>(texts.size()), 1},
                      {bytes.substr(0, half), bytes.substr(half)}});
    return *this;
}

bool TRITONBACKEND_Request::wait_for_release(double seconds) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::duration<double>(seconds),
                            [&] { return n_releases > 0 && n_factories == 0; });
}

bool TRITONBACKEND_Request::wait_for_responses(size_t n, double seconds) {
    std::unique_lock lock(mutex);
    return changed.wait_for(lock, std::chrono::duration<double>(seconds),
                            [&] { return responses.size() >= n; });
}

std::string TRITONBACKEND_Request::all_text() {
    const std::lock_guard lock(mutex);
    std::string all;
    for (const HostResponse& r : responses) all += r.text();
    return all;
}

namespace {

template <class... Args>
std::string call(void* library, const char* name, Args... args) {
    void* symbol = dlsym(library, name);
    if (symbol == nullptr) throw std::runtime_error(std::string("no ") + name);
    return take_error(reinterpret_cast<TRITONSERVER_Error* (*)(Args...)>(symbol)(args...));
}

}  // namespace

Host::Host(const char* library) : library_(dlopen(library, RTLD_NOW | RTLD_LOCAL)) {
    if (library_ == nullptr) throw std::runtime_error(dlerror());
    const std::string error = call(library_, "TRITONBACKEND_Initialize", &backend_);
    if (!error.empty()) throw std::runtime_error(error);
}

std::string Host::load(const std::string& config, const std::string& folder, bool completes) {
    model_ = {};
    model_.name = "demo";
    model_.config = config;
    model_.folder = folder;
    model_.completes = completes;
    std::string error = call(library_, "TRITONBACKEND_ModelInitialize", &model_);
    if (!error.empty()) return error;
    instance_ = {};
    instance_.model = &model_;
    return call(library_, "TRITONBACKEND_ModelInstanceInitialize", &instance_);
}

std::string Host::execute(const std::vector<TRITONBACKEND_Request*>& requests) {
    auto copy = requests;  // the array is the host's again when the call returns
    std::string error = call(library_, "TRITONBACKEND_ModelInstanceExecute", &instance_, copy.data(),
                             static_cast<uint32_t>(copy.size()));
    copy.assign(copy.size(), nullptr);
    return error;
}

void Host::unload() {
    if (model_.state == nullptr) return;
    const std::string error = call(library_, "TRITONBACKEND_ModelInstanceFinalize", &instance_);
    if (!error.empty()) throw std::runtime_error(error);
    const std::string last = call(library_, "TRITONBACKEND_ModelFinalize", &model_);
    if (!last.empty()) throw std::runtime_error(last);
    model_.state = nullptr;
}

std::vector<std::string> host_log() {
    const std::lock_guard lock(mutex);
    return log_lines;
}
