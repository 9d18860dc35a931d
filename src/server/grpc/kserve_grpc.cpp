// GRPCInferenceService: messages to the host's plain values and back. Metadata comes from the routes, whose
// JSON has the names of the messages' fields.
#include <google/protobuf/util/json_util.h>
#include <grpcpp/grpcpp.h>

#include <deque>
#include <map>
#include <mutex>

#include "server/grpc/kserve.grpc.pb.h"
#include "server/grpc/kserve_host.h"

namespace smelt {

namespace {

using grpc::Status;
using grpc::StatusCode;

Status status_of(int http, const std::string& message) {
    const StatusCode code = http == 400   ? StatusCode::INVALID_ARGUMENT
                            : http == 401 ? StatusCode::UNAUTHENTICATED
                            : http == 403 ? StatusCode::PERMISSION_DENIED
                            : http == 404 ? StatusCode::NOT_FOUND
                            : http == 413 ? StatusCode::RESOURCE_EXHAUSTED
                            : http == 429 ? StatusCode::RESOURCE_EXHAUSTED
                            : http == 501 ? StatusCode::UNIMPLEMENTED
                            : http == 503 ? StatusCode::UNAVAILABLE
                                          : StatusCode::INTERNAL;
    return {code, message};
}

HttpHeaders headers_of(const grpc::CallbackServerContext& context) {
    HttpHeaders headers = {{"host", "localhost"}};
    for (const auto& [name, value] : context.client_metadata()) {
        const std::string key(name.data(), name.size());
        if (key == "authorization" || key == "x-api-key")
            headers.emplace_back(key, std::string(value.data(), value.size()));
    }
    return headers;
}

std::string model_path(const std::string& model, const std::string& version, const char* rest) {
    return "/v2/models/" + model + (version.empty() ? "" : "/versions/" + version) + rest;
}

template <class Parameter>
Json parameter_json(const Parameter& p) {
    switch (p.parameter_choice_case()) {
        case Parameter::kBoolParam:
            return p.bool_param();
        case Parameter::kInt64Param:
            return p.int64_param();
        case Parameter::kStringParam:
            return p.string_param();
        default:
            break;
    }
    if constexpr (std::is_same_v<Parameter, inference::InferParameter>) {
        if (p.parameter_choice_case() == Parameter::kDoubleParam) return p.double_param();
        if (p.parameter_choice_case() == Parameter::kUint64Param) return p.uint64_param();
    }
    return nullptr;
}

template <class Map>
Json parameters_json(const Map& parameters) {
    Json all = Json::object();
    for (const auto& [name, p] : parameters) all[name] = parameter_json(p);
    return all;
}

// No tensor has as many; what it has in their place is refused by its count.
Json contents_json(const inference::InferTensorContents& c) {
    constexpr int most = 1 << 16;
    Json data = Json::array();
    for (const int n : {c.bool_contents_size(), c.int_contents_size(), c.int64_contents_size(),
                        c.uint_contents_size(), c.uint64_contents_size(), c.fp32_contents_size(),
                        c.fp64_contents_size(), c.bytes_contents_size()}) {
        if (n > most) return data;
    }
    for (const bool v : c.bool_contents()) data.push_back(v);
    for (const auto v : c.int_contents()) data.push_back(v);
    for (const auto v : c.int64_contents()) data.push_back(v);
    for (const auto v : c.uint_contents()) data.push_back(v);
    for (const auto v : c.uint64_contents()) data.push_back(v);
    for (const auto v : c.fp32_contents()) data.push_back(v);
    for (const auto v : c.fp64_contents()) data.push_back(v);
    for (const auto& v : c.bytes_contents()) data.push_back(v);
    return data;
}

// Inputs are raw all together, or none is.
KserveInferCall infer_call(const inference::ModelInferRequest& r, HttpHeaders headers, bool streams) {
    KserveInferCall call{.headers = std::move(headers),
                         .id = r.id(),
                         .model = r.model_name(),
                         .version = r.model_version(),
                         .parameters = parameters_json(r.parameters()),
                         .streams = streams};
    for (int i = 0; i < r.inputs_size(); ++i) {
        const auto& in = r.inputs(i);
        KserveRawTensor t{.name = in.name(),
                          .datatype = in.datatype(),
                          .shape = {in.shape().begin(), in.shape().end()},
                          .is_raw = i < r.raw_input_contents_size()};
        if (t.is_raw) {
            t.bytes = r.raw_input_contents(i);
        } else {
            t.data = contents_json(in.contents());
        }
        call.inputs.push_back(std::move(t));
    }
    for (const auto& output : r.outputs()) call.outputs.push_back(output.name());
    return call;
}

void fill(const inference::ModelInferRequest& request, const std::vector<KserveRawTensor>& outputs,
          bool is_last, const std::string& warnings, inference::ModelInferResponse& to) {
    to.set_model_name(request.model_name());
    to.set_model_version("1");
    to.set_id(request.id());
    for (const KserveRawTensor& t : outputs) {
        auto* output = to.add_outputs();
        output->set_name(t.name);
        output->set_datatype(t.datatype);
        for (const int64_t d : t.shape) output->add_shape(d);
        to.add_raw_output_contents(t.bytes);
    }
    (*to.mutable_parameters())["triton_final_response"].set_bool_param(is_last);
    if (!warnings.empty()) (*to.mutable_parameters())["warnings"].set_string_param(warnings);
}

// One request, one response. Lives until gRPC is done with it and nobody calls it any more.
class InferCall final : public grpc::ServerUnaryReactor, public std::enable_shared_from_this<InferCall> {
 public:
    void start(KserveHost& host, const grpc::CallbackServerContext& context,
               const inference::ModelInferRequest& request, inference::ModelInferResponse& response) {
        self_ = shared_from_this();
        KserveInferCall call = infer_call(request, headers_of(context), false);
        call.respond = [self = self_, &request, &response](const auto& outputs, bool is_last,
                                                           const auto& warnings) {
            const std::lock_guard lock(self->mutex_);
            if (self->is_over_) return;
            fill(request, outputs, is_last, warnings, response);
            self->is_over_ = true;
            self->Finish(Status::OK);
        };
        call.fail = [self = self_](int status, const std::string& message) {
            const std::lock_guard lock(self->mutex_);
            if (std::exchange(self->is_over_, true)) return;
            self->Finish(status_of(status, message));
        };
        auto cancel = host.infer(std::move(call));
        const std::lock_guard lock(mutex_);
        cancel_ = std::move(cancel);
        if (is_cancelled_) cancel_();
    }

 private:
    void OnCancel() override {
        const std::lock_guard lock(mutex_);
        is_cancelled_ = true;
        if (cancel_) cancel_();
        if (!std::exchange(is_over_, true)) Finish(Status::CANCELLED);
    }
    void OnDone() override {
        const auto last = std::exchange(self_, nullptr);
        const std::lock_guard lock(mutex_);
        cancel_ = nullptr;
    }

    std::mutex mutex_;
    bool is_over_ = false, is_cancelled_ = false;
    std::function<void()> cancel_;
    std::shared_ptr<InferCall> self_;
};

// Requests come as they come, responses of several mix; a fault of one ends none of the others.
class StreamCall final
    : public grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>,
      public std::enable_shared_from_this<StreamCall> {
 public:
    StreamCall(KserveHost& host, HttpHeaders headers) : host_(host), headers_(std::move(headers)) {}
    void start() {
        self_ = shared_from_this();
        StartRead(&next_);
    }

 private:
    void OnReadDone(bool ok) override {
        if (!ok) {
            const std::lock_guard lock(mutex_);
            no_more_ = true;
            return go_on();
        }
        const auto request = std::make_shared<inference::ModelInferRequest>(std::move(next_));
        const uint64_t number = ++n_requests_;
        {
            const std::lock_guard lock(mutex_);
            running_[number] = nullptr;
        }
        KserveInferCall call = infer_call(*request, headers_, true);
        call.respond = [self = self_, request, number](const auto& outputs, bool is_last,
                                                       const auto& warnings) {
            inference::ModelStreamInferResponse r;
            fill(*request, outputs, is_last, warnings, *r.mutable_infer_response());
            self->add(number, std::move(r), is_last);
        };
        call.fail = [self = self_, request, number](int, const std::string& message) {
            inference::ModelStreamInferResponse r;
            r.set_error_message(message);
            r.mutable_infer_response()->set_id(request->id());
            r.mutable_infer_response()->set_model_name(request->model_name());
            self->add(number, std::move(r), true);
        };
        auto cancel = host_.infer(std::move(call));
        {
            const std::lock_guard lock(mutex_);
            if (is_cancelled_) cancel();
            if (const auto it = running_.find(number); it != running_.end()) it->second = std::move(cancel);
        }
        next_ = {};
        StartRead(&next_);
    }

    void add(uint64_t number, inference::ModelStreamInferResponse response, bool is_last) {
        decltype(running_)::node_type ended;  // goes when nothing is locked
        const std::lock_guard lock(mutex_);
        if (is_last) ended = running_.extract(number);
        waiting_.push_back(std::move(response));
        go_on();
    }
    void OnWriteDone(bool ok) override {
        const std::lock_guard lock(mutex_);
        writes_ = false;
        waiting_.pop_front();
        if (!ok) waiting_.clear();
        go_on();
    }
    // One write at a time; the end when nothing runs and nothing more comes.
    void go_on() {
        if (is_finished_ || writes_) return;
        if (is_cancelled_ || (waiting_.empty() && no_more_ && running_.empty())) {
            is_finished_ = true;
            Finish(is_cancelled_ ? Status::CANCELLED : Status::OK);
        } else if (!waiting_.empty()) {
            writes_ = true;
            StartWrite(&waiting_.front());
        }
    }
    void OnCancel() override {
        const std::lock_guard lock(mutex_);
        is_cancelled_ = true;
        for (const auto& [number, cancel] : running_) {
            if (cancel) cancel();
        }
        go_on();
    }
    void OnDone() override {
        const auto last = std::exchange(self_, nullptr);
        const std::lock_guard lock(mutex_);
        running_.clear();
    }

    KserveHost& host_;
    const HttpHeaders headers_;
    std::mutex mutex_;
    inference::ModelInferRequest next_;
    std::deque<inference::ModelStreamInferResponse> waiting_;
    uint64_t n_requests_ = 0;
    // By number, what cancels them: null until infer() has said it. A stream may live for days and as many
    // requests, so that those which have ended leave.
    std::map<uint64_t, std::function<void()>> running_;
    bool writes_ = false, no_more_ = false, is_cancelled_ = false, is_finished_ = false;
    std::shared_ptr<StreamCall> self_;
};

class Service final : public inference::GRPCInferenceService::CallbackService {
 public:
    explicit Service(KserveHost& host) : host_(host) {}

    using Context = grpc::CallbackServerContext;
    using Reactor = grpc::ServerUnaryReactor;

    Reactor* ServerLive(Context* c, const inference::ServerLiveRequest*,
                        inference::ServerLiveResponse* r) override {
        return get(c, "/v2/health/live", *r);
    }
    Reactor* ServerReady(Context* c, const inference::ServerReadyRequest*,
                         inference::ServerReadyResponse* r) override {
        return get(c, "/v2/health/ready", *r, true);
    }
    Reactor* ModelReady(Context* c, const inference::ModelReadyRequest* q,
                        inference::ModelReadyResponse* r) override {
        return get(c, model_path(q->name(), q->version(), "/ready"), *r, true);
    }
    Reactor* ServerMetadata(Context* c, const inference::ServerMetadataRequest*,
                            inference::ServerMetadataResponse* r) override {
        return get(c, "/v2", *r);
    }
    Reactor* ModelMetadata(Context* c, const inference::ModelMetadataRequest* q,
                           inference::ModelMetadataResponse* r) override {
        return get(c, model_path(q->name(), q->version(), ""), *r);
    }
    Reactor* ModelConfig(Context* c, const inference::ModelConfigRequest* q,
                         inference::ModelConfigResponse* r) override {
        return get(c, model_path(q->name(), q->version(), "/config"), *r->mutable_config());
    }
    Reactor* RepositoryIndex(Context* c, const inference::RepositoryIndexRequest* q,
                             inference::RepositoryIndexResponse* r) override {
        HttpAnswer a = post(c, "/v2/repository/index", {{"ready", q->ready()}});
        if (a.status == 200) a.body = "{\"models\": " + a.body + "}";
        return finish(c, a, *r);
    }
    Reactor* RepositoryModelLoad(Context* c, const inference::RepositoryModelLoadRequest* q,
                                 inference::RepositoryModelLoadResponse* r) override {
        return finish(c,
                      post(c, repository_path(q->model_name(), "/load"),
                           {{"parameters", parameters_json(q->parameters())}}),
                      *r);
    }
    Reactor* RepositoryModelUnload(Context* c, const inference::RepositoryModelUnloadRequest* q,
                                   inference::RepositoryModelUnloadResponse* r) override {
        return finish(c,
                      post(c, repository_path(q->model_name(), "/unload"),
                           {{"parameters", parameters_json(q->parameters())}}),
                      *r);
    }
    Reactor* ModelInfer(Context* c, const inference::ModelInferRequest* q,
                        inference::ModelInferResponse* r) override {
        const auto call = std::make_shared<InferCall>();
        call->start(host_, *c, *q, *r);
        return call.get();
    }
    grpc::ServerBidiReactor<inference::ModelInferRequest, inference::ModelStreamInferResponse>*
    ModelStreamInfer(Context* c) override {
        const auto call = std::make_shared<StreamCall>(host_, headers_of(*c));
        call->start();
        return call.get();
    }

 private:
    static std::string repository_path(const std::string& model, const char* rest) {
        return "/v2/repository/models/" + model + rest;
    }
    HttpAnswer post(Context* c, const std::string& path, const Json& body) {
        return host_.ask({.id = "",
                          .method = "POST",
                          .path = path,
                          .query = "",
                          .headers = headers_of(*c),
                          .body = body.dump()});
    }
    // 400 with "ready": false is an answer over gRPC.
    template <class Response>
    Reactor* get(Context* c, const std::string& path, Response& r, bool says_ready = false) {
        HttpAnswer a = host_.ask(
            {.id = "", .method = "GET", .path = path, .query = "", .headers = headers_of(*c), .body = ""});
        if (says_ready && a.status == 400) a.status = 200;
        return finish(c, a, r);
    }
    template <class Response>
    Reactor* finish(Context* c, const HttpAnswer& a, Response& r) {
        Reactor* reactor = c->DefaultReactor();
        if (a.status == 200) {
            google::protobuf::util::JsonParseOptions options;
            options.ignore_unknown_fields = true;  // a body has the name that a message lacks
            const auto read = google::protobuf::util::JsonStringToMessage(a.body, &r, options);
            reactor->Finish(read.ok() ? Status::OK
                                      : Status(StatusCode::INTERNAL, "an answer without its form"));
            return reactor;
        }
        const Json error = Json::parse(a.body, nullptr, false);
        reactor->Finish(status_of(a.status, error.is_object() ? error.value("error", a.body) : a.body));
        return reactor;
    }

    KserveHost& host_;
};

class Server final : public GrpcServer {
 public:
    Server(KserveHost& host, const GrpcOptions& options) : service_(host) {
        grpc::ServerBuilder builder;
        std::shared_ptr<grpc::ServerCredentials> credentials = grpc::InsecureServerCredentials();
        if (!options.certificate.empty()) {
            grpc::SslServerCredentialsOptions ssl;
            ssl.pem_key_cert_pairs.push_back({options.key, options.certificate});
            credentials = grpc::SslServerCredentials(ssl);
        }
        // An address with colons stands in brackets.
        const bool v6 = options.host.find(':') != std::string::npos;
        builder.AddListeningPort(
            (v6 ? "[" + options.host + "]" : options.host) + ":" + std::to_string(options.port), credentials,
            &port_);
        builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
        builder.SetMaxReceiveMessageSize(static_cast<int>(options.max_body_bytes));
        builder.RegisterService(&service_);
        server_ = builder.BuildAndStart();
    }
    bool listens() const { return server_ != nullptr && port_ > 0; }
    int port() const override { return port_; }
    void stop() override {
        if (server_ == nullptr) return;
        server_->Shutdown(std::chrono::system_clock::now());
        server_->Wait();
        server_ = nullptr;
    }
    ~Server() override { stop(); }

 private:
    Service service_;
    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
};

}  // namespace

}  // namespace smelt

extern "C" __attribute__((visibility("default"))) smelt::GrpcServer* smelt_start_grpc(
    smelt::KserveHost& host, const smelt::GrpcOptions& options, std::string& error) {
    auto server = std::make_unique<smelt::Server>(host, options);
    if (server->listens()) return server.release();
    error = "cannot listen on " + options.host + ":" + std::to_string(options.port);
    return nullptr;
}
