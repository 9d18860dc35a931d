// TRITONBACKEND_*: a model of Triton is one engine, which batches what is under way by itself. Requests are
// taken over by ModelInstanceExecute, which returns at once; responses come from the model's thread.
#include <fmt/format.h>

#include <atomic>
#include <cstdlib>
#include <memory>

#include "base/log.h"
#include "server/dialects/schema_checks.h"
#include "triton/served_model.h"
#include "triton/triton_api.h"

namespace smelt {

namespace {

uint64_t now() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     std::chrono::steady_clock::now().time_since_epoch())
                                     .count());
}

// Of a call to Triton that failed: its text, as an error of ours.
void check(TRITONSERVER_Error* error) {
    if (error == nullptr) return;
    const std::string text = TRITONSERVER_ErrorMessage(error);
    TRITONSERVER_ErrorDelete(error);
    throw Error("Triton: {}", text);
}
// Where there is nobody to tell.
void forget(TRITONSERVER_Error* error) {
    if (error != nullptr) TRITONSERVER_ErrorDelete(error);
}

void log(TRITONSERVER_LogLevel level, const std::string& text) {
    forget(TRITONSERVER_LogMessage(level, "smelt", 0, text.c_str()));
}

TRITONSERVER_Error_Code code_of(const ApiError& e) {
    if (e.status == 404) return TRITONSERVER_ERROR_NOT_FOUND;
    if (e.status == 503 || e.status == 429) return TRITONSERVER_ERROR_UNAVAILABLE;
    if (e.status >= 500) return TRITONSERVER_ERROR_INTERNAL;
    return e.code == "not_supported" ? TRITONSERVER_ERROR_UNSUPPORTED : TRITONSERVER_ERROR_INVALID_ARG;
}

// Nothing is thrown into Triton.
template <class Work>
TRITONSERVER_Error* guarded(Work work) {
    try {
        work();
        return nullptr;
    } catch (const RequestError& e) {
        return TRITONSERVER_ErrorNew(code_of(e.error), e.error.message.c_str());
    } catch (const std::exception& e) {
        return TRITONSERVER_ErrorNew(TRITONSERVER_ERROR_INVALID_ARG, e.what());
    }
}

constexpr std::pair<TRITONSERVER_DataType, const char*> datatypes[] = {
    {TRITONSERVER_TYPE_BOOL, "BOOL"},     {TRITONSERVER_TYPE_UINT8, "UINT8"},
    {TRITONSERVER_TYPE_UINT16, "UINT16"}, {TRITONSERVER_TYPE_UINT32, "UINT32"},
    {TRITONSERVER_TYPE_UINT64, "UINT64"}, {TRITONSERVER_TYPE_INT8, "INT8"},
    {TRITONSERVER_TYPE_INT16, "INT16"},   {TRITONSERVER_TYPE_INT32, "INT32"},
    {TRITONSERVER_TYPE_INT64, "INT64"},   {TRITONSERVER_TYPE_FP32, "FP32"},
    {TRITONSERVER_TYPE_FP64, "FP64"},     {TRITONSERVER_TYPE_BYTES, "BYTES"}};

std::string datatype_name(TRITONSERVER_DataType type) {
    for (const auto& [t, name] : datatypes) {
        if (t == type) return name;
    }
    return "of an unknown type";
}
TRITONSERVER_DataType datatype_of(std::string_view name) {
    for (const auto& [t, n] : datatypes) {
        if (name == n) return t;
    }
    return TRITONSERVER_TYPE_INVALID;
}

KserveTensor read_input(TRITONBACKEND_Request* request, uint32_t index) {
    TRITONBACKEND_Input* input = nullptr;
    check(TRITONBACKEND_RequestInputByIndex(request, index, &input));
    const char* name = nullptr;
    TRITONSERVER_DataType type = TRITONSERVER_TYPE_INVALID;
    const int64_t* shape = nullptr;
    uint32_t n_dims = 0, n_buffers = 0;
    uint64_t n_bytes = 0;
    check(TRITONBACKEND_InputProperties(input, &name, &type, &shape, &n_dims, &n_bytes, &n_buffers));
    KserveTensor t{.name = name, .datatype = datatype_name(type), .shape = {shape, shape + n_dims}};
    std::string bytes;
    for (uint32_t i = 0; i < n_buffers; ++i) {
        const void* buffer = nullptr;
        uint64_t size = 0;
        TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
        int64_t id = 0;
        check(TRITONBACKEND_InputBuffer(input, i, &buffer, &size, &memory, &id));
        if (memory == TRITONSERVER_MEMORY_GPU)
            throw bad_request("not_supported", t.name, "{}: inputs in a GPU's memory are not supported",
                              t.name);
        bytes.append(static_cast<const char*>(buffer), size);
    }
    t.data = decode_kserve_data(t, bytes);
    check_kserve_tensor(t);
    return t;
}

Json read_parameters(TRITONBACKEND_Request* request) {
    Json parameters = Json::object();
    uint32_t n = 0;
    check(TRITONBACKEND_RequestParameterCount(request, &n));
    for (uint32_t i = 0; i < n; ++i) {
        const char* key = nullptr;
        TRITONSERVER_ParameterType type = TRITONSERVER_PARAMETER_STRING;
        const void* value = nullptr;
        check(TRITONBACKEND_RequestParameter(request, i, &key, &type, &value));
        const std::string_view name = key;
        // Triton's own, about the stream that the request came by.
        if (name.starts_with("triton_") || name == "binary_data_output") continue;
        switch (type) {
            case TRITONSERVER_PARAMETER_STRING:
                parameters[key] = static_cast<const char*>(value);
                break;
            case TRITONSERVER_PARAMETER_INT:
                parameters[key] = *static_cast<const int64_t*>(value);
                break;
            case TRITONSERVER_PARAMETER_BOOL:
                parameters[key] = *static_cast<const bool*>(value);
                break;
            case TRITONSERVER_PARAMETER_DOUBLE:
                parameters[key] = *static_cast<const double*>(value);
                break;
            case TRITONSERVER_PARAMETER_BYTES:
                throw bad_request("not_supported", key, "{}: parameters of bytes are not supported", key);
        }
    }
    return parameters;
}

std::vector<KserveQuestion::Output> read_outputs(TRITONBACKEND_Request* request) {
    std::vector<KserveQuestion::Output> outputs;
    uint32_t n = 0;
    check(TRITONBACKEND_RequestOutputCount(request, &n));
    for (uint32_t i = 0; i < n; ++i) {
        const char* name = nullptr;
        check(TRITONBACKEND_RequestOutputName(request, i, &name));
        outputs.push_back({name});
    }
    if (outputs.empty()) {
        for (const KserveTensorInfo& o : kserve_outputs()) outputs.push_back({std::string(o.name)});
    }
    return outputs;
}

class Running;

// What Triton keeps as the model's state.
struct BackendModel {
    BackendModel(const TritonConfig& config, const std::filesystem::path& path)
        : decoupled(config.decoupled), served(config, path) {}

    const bool decoupled;
    std::vector<std::shared_ptr<Running>> running;  // of the model's thread
    std::atomic<int> n_running = 0;
    TritonServed served;  // goes first
};

// A request that this backend owns, until its last response. On the model's thread but for its making.
class Running : public std::enable_shared_from_this<Running> {
 public:
    Running(BackendModel& model, TRITONBACKEND_ModelInstance* instance, TRITONBACKEND_Request* request)
        : model_(model), instance_(instance), request_(request) {
        check(TRITONBACKEND_ResponseFactoryNew(&factory_, request_));
    }
    ~Running() {
        if (factory_ != nullptr) forget(TRITONBACKEND_ResponseFactoryDelete(factory_));
    }

    // Never throws: what is wrong becomes the response.
    void start() {
        ++model_.n_running;
        try {
            KserveQuestion question = read();
            const auto self = shared_from_this();
            const auto post = [&thread = model_.served.thread()](std::function<void()> work) {
                thread.post(std::move(work));
            };
            if (!model_.decoupled && question.streams == true)
                throw bad_request("not_supported", "stream",
                                  "stream: this model's configuration is not decoupled: one response each");
            if (!model_.decoupled) question.streams = false;
            question.request.model = model_.served.name();
            task_.emplace(
                model_.served.server(), std::move(question), KserveTask::Options{},
                KserveCaller{.post = post,
                             .respond = [self](KserveResponse r) { self->respond(r); },
                             .fail = [self](const ApiError& e) { self->fail(code_of(e), e.message); }});
            post([self] {
                if (!self->is_done_) self->model_.running.push_back(self);
            });
        } catch (const RequestError& e) {
            fail(code_of(e.error), e.error.message);
        } catch (const std::exception& e) {
            fail(TRITONSERVER_ERROR_INTERNAL, e.what());
        }
    }

    // Whether Triton's client has gone.
    bool is_cancelled() const {
        bool cancelled = false;
        forget(TRITONBACKEND_ResponseFactoryIsCancelled(factory_, &cancelled));
        return cancelled;
    }
    void cancel() {
        task_->cancel();
        fail(TRITONSERVER_ERROR_CANCELLED, "the request was cancelled");
    }
    bool is_done() const { return is_done_; }

 private:
    KserveQuestion read() {
        std::vector<KserveTensor> inputs;
        uint32_t n = 0;
        check(TRITONBACKEND_RequestInputCount(request_, &n));
        for (uint32_t i = 0; i < n; ++i) inputs.push_back(read_input(request_, i));
        KserveQuestion q = make_kserve_question(inputs, read_parameters(request_), read_outputs(request_),
                                                {.strict = false, .warnings = warnings_});
        n_rows_ = q.texts.size();
        return q;
    }

    void respond(const KserveResponse& r) {
        TRITONBACKEND_Response* response = nullptr;
        try {
            check(TRITONBACKEND_ResponseNewFromFactory(&response, factory_));
            for (const KserveTensor& t : r.outputs) add_output(response, t);
            if (r.is_last && !warnings_.empty()) {
                std::string text;
                for (const std::string& w : warnings_) text += (text.empty() ? "" : "; ") + w;
                check(TRITONBACKEND_ResponseSetStringParameter(response, "warnings", text.c_str()));
            }
        } catch (const std::exception& e) {
            if (response != nullptr) forget(TRITONBACKEND_ResponseDelete(response));
            return fail(TRITONSERVER_ERROR_INTERNAL, e.what());
        }
        forget(TRITONBACKEND_ResponseSend(response, r.is_last ? TRITONSERVER_RESPONSE_COMPLETE_FINAL : 0,
                                          nullptr));
        if (r.is_last) finish(true);
    }

    static void add_output(TRITONBACKEND_Response* response, const KserveTensor& t) {
        TRITONBACKEND_Output* output = nullptr;
        check(TRITONBACKEND_ResponseOutput(response, &output, t.name.c_str(), datatype_of(t.datatype),
                                           t.shape.data(), static_cast<uint32_t>(t.shape.size())));
        const std::string bytes = encode_kserve_data(t);
        void* buffer = nullptr;
        TRITONSERVER_MemoryType memory = TRITONSERVER_MEMORY_CPU;
        int64_t id = 0;
        check(TRITONBACKEND_OutputBuffer(output, &buffer, bytes.size(), &memory, &id));
        if (memory == TRITONSERVER_MEMORY_GPU) throw Error("{}: Triton gave a GPU's memory for it", t.name);
        if (!bytes.empty()) std::memcpy(buffer, bytes.data(), bytes.size());
    }

    void fail(TRITONSERVER_Error_Code code, const std::string& text) {
        if (is_done_) return;
        TRITONBACKEND_Response* response = nullptr;
        TRITONSERVER_Error* error = TRITONSERVER_ErrorNew(code, text.c_str());
        TRITONSERVER_Error* none = TRITONBACKEND_ResponseNewFromFactory(&response, factory_);
        if (none == nullptr) {
            forget(TRITONBACKEND_ResponseSend(response, TRITONSERVER_RESPONSE_COMPLETE_FINAL, error));
        }
        forget(none);
        TRITONSERVER_ErrorDelete(error);
        finish(false);
    }

    void finish(bool success) {
        is_done_ = true;
        const uint64_t end = now();
        forget(TRITONBACKEND_ModelInstanceReportStatistics(instance_, request_, success, begin_, begin_, end,
                                                           end));
        if (success)
            forget(TRITONBACKEND_ModelInstanceReportBatchStatistics(instance_, n_rows_, begin_, begin_, end,
                                                                    end));
        forget(TRITONBACKEND_RequestRelease(request_, TRITONSERVER_REQUEST_RELEASE_ALL));
        request_ = nullptr;
        --model_.n_running;
    }

    BackendModel& model_;
    TRITONBACKEND_ModelInstance* instance_;
    TRITONBACKEND_Request* request_;
    TRITONBACKEND_ResponseFactory* factory_ = nullptr;
    std::vector<std::string> warnings_;
    std::optional<KserveTask> task_;
    size_t n_rows_ = 1;
    const uint64_t begin_ = now();
    std::atomic<bool> is_done_ = false;
};

Json config_of(TRITONBACKEND_Model* model) {
    TRITONSERVER_Message* message = nullptr;
    check(TRITONBACKEND_ModelConfig(model, 1, &message));
    const char* base = nullptr;
    size_t n = 0;
    TRITONSERVER_Error* error = TRITONSERVER_MessageSerializeToJson(message, &base, &n);
    Json config;
    if (error == nullptr) config = parse_json({base, n}, "config");
    forget(TRITONSERVER_MessageDelete(message));
    check(error);
    return config;
}

// Where Triton may complete it, tensors that the model's folder does not declare are declared here.
void complete_config(TRITONBACKEND_Model* model, Json& config) {
    bool completes = false;
    check(TRITONBACKEND_ModelAutoCompleteConfig(model, &completes));
    const auto is_missing = [&](const char* name) { return !config.contains(name) || config[name].empty(); };
    if (!completes || (!is_missing("input") && !is_missing("output"))) return;
    if (is_missing("input")) config["input"] = triton_tensors(kserve_inputs());
    if (is_missing("output")) config["output"] = triton_tensors(kserve_outputs());
    const std::string text = to_string(config);
    TRITONSERVER_Message* message = nullptr;
    check(TRITONSERVER_MessageNewFromSerializedJson(&message, text.data(), text.size()));
    TRITONSERVER_Error* error = TRITONBACKEND_ModelSetConfig(model, 1, message);
    forget(TRITONSERVER_MessageDelete(message));
    check(error);
}

// Where quantized models are kept.
std::filesystem::path cache_folder() {
    const char* cache = std::getenv("XDG_CACHE_HOME");
    const char* home = std::getenv("HOME");
    if (cache != nullptr && *cache != '\0') return std::filesystem::path(cache) / "smelt" / "triton";
    if (home != nullptr && *home != '\0') return std::filesystem::path(home) / ".cache" / "smelt" / "triton";
    return std::filesystem::temp_directory_path() / "smelt-triton";
}

void open_model_of(TRITONBACKEND_Model* model) {
    Json config = config_of(model);
    complete_config(model, config);
    const TritonConfig read = read_triton_config(config);
    for (const std::string& w : read.warnings)
        log(TRITONSERVER_LOG_WARN, fmt::format("{}: {}", read.name, w));
    TRITONBACKEND_ArtifactType type = TRITONBACKEND_ARTIFACT_FILESYSTEM;
    const char* location = nullptr;
    uint64_t version = 0;
    check(TRITONBACKEND_ModelRepository(model, &type, &location));
    check(TRITONBACKEND_ModelVersion(model, &version));
    const auto path = quantized_model(read, triton_model_path(read, location, version), cache_folder());
    auto state = std::make_unique<BackendModel>(read, path);
    state->served.thread().set_tick([m = state.get()] {
        std::erase_if(m->running, [](const auto& r) { return r->is_done(); });
        const auto all = m->running;
        for (const auto& r : all) {
            if (r->is_cancelled()) r->cancel();
        }
    });
    log(TRITONSERVER_LOG_INFO, fmt::format("{}: {} is served by smelt", read.name, path.string()));
    check(TRITONBACKEND_ModelSetState(model, state.release()));
}

BackendModel& state_of(TRITONBACKEND_ModelInstance* instance) {
    TRITONBACKEND_Model* model = nullptr;
    void* state = nullptr;
    check(TRITONBACKEND_ModelInstanceModel(instance, &model));
    check(TRITONBACKEND_ModelState(model, &state));
    return *static_cast<BackendModel*>(state);
}

}  // namespace

}  // namespace smelt

extern "C" {

TRITONSERVER_Error* TRITONBACKEND_Initialize(TRITONBACKEND_Backend*) {
    return smelt::guarded([] {
        uint32_t major = 0, minor = 0;
        smelt::check(TRITONBACKEND_ApiVersion(&major, &minor));
        if (major != TRITONBACKEND_API_VERSION_MAJOR || minor < TRITONBACKEND_API_VERSION_MINOR) {
            throw smelt::Error("TRITONBACKEND interface: expected {}.{} or later {}.x, found {}.{}",
                               TRITONBACKEND_API_VERSION_MAJOR, TRITONBACKEND_API_VERSION_MINOR,
                               TRITONBACKEND_API_VERSION_MAJOR, major, minor);
        }
        smelt::init_log_of_library();
    });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInitialize(TRITONBACKEND_Model* model) {
    return smelt::guarded([&] { smelt::open_model_of(model); });
}

TRITONSERVER_Error* TRITONBACKEND_ModelFinalize(TRITONBACKEND_Model* model) {
    return smelt::guarded([&] {
        void* state = nullptr;
        smelt::check(TRITONBACKEND_ModelState(model, &state));
        delete static_cast<smelt::BackendModel*>(state);
    });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceInitialize(TRITONBACKEND_ModelInstance*) {
    return nullptr;
}

// Requests hold the instance until their last response.
TRITONSERVER_Error* TRITONBACKEND_ModelInstanceFinalize(TRITONBACKEND_ModelInstance* instance) {
    return smelt::guarded([&] {
        const smelt::BackendModel& model = smelt::state_of(instance);
        while (model.n_running > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    });
}

TRITONSERVER_Error* TRITONBACKEND_ModelInstanceExecute(TRITONBACKEND_ModelInstance* instance,
                                                       TRITONBACKEND_Request** requests,
                                                       const uint32_t request_count) {
    return smelt::guarded([&] {
        smelt::BackendModel& model = smelt::state_of(instance);
        // First all, since after an error the requests are Triton's.
        std::vector<std::shared_ptr<smelt::Running>> all;
        for (uint32_t i = 0; i < request_count; ++i)
            all.push_back(std::make_shared<smelt::Running>(model, instance, requests[i]));
        for (const auto& running : all) running->start();
    });
}
}
