// Requests that came over gRPC pass the same guards as those over HTTP, and run on the same I/O thread.
#include "server/grpc/kserve_host.h"

#include "server/api_server.h"
#include "server/dialects/kserve.h"
#include "server/dialects/kserve_task.h"

namespace smelt {

namespace {

// Keeps the answer of a route that gives it at once.
class KeptAnswer final : public Exchange {
 public:
    void send(HttpAnswer a) override { answer = std::move(a); }
    void begin_stream(HttpAnswer) override {}
    void write(std::string) override {}
    void end() override {}
    void abandon() override {}
    void on_loss(std::function<void(Loss)>) override {}
    void on_flow(std::function<void(bool)>) override {}
    void post(std::function<void()> work) override { work(); }
    Held hold(size_t) override { return Held::yes; }
    Held hold_only(size_t) override { return Held::yes; }

    HttpAnswer answer = {.status = 500};
};

std::string error_text(const HttpAnswer& answer) {
    const Json body = Json::parse(answer.body, nullptr, false);
    return body.is_object() && body.contains("error") && body["error"].is_string()
               ? body["error"].get<std::string>()
               : answer.body;
}

KserveTensor tensor_of(KserveRawTensor& raw) {
    KserveTensor t{.name = std::move(raw.name),
                   .datatype = std::move(raw.datatype),
                   .shape = std::move(raw.shape),
                   .data = std::move(raw.data)};
    if (raw.is_raw) t.data = decode_kserve_data(t, raw.bytes);
    check_kserve_tensor(t);
    return t;
}

std::string joined(const std::vector<std::string>& warnings) {
    std::string text;
    for (const std::string& w : warnings) text += (text.empty() ? "" : "; ") + w;
    return text;
}

class ServerHost final : public KserveHost {
 public:
    ServerHost(ApiServer& server, ServerContext& context, std::function<void(std::function<void()>)> post)
        : server_(server), context_(context), post_(std::move(post)) {}

    HttpAnswer ask(HttpRequest request) override {
        if (auto refusal = server_.refuse(request)) return *refusal;
        const auto kept = std::make_shared<KeptAnswer>();
        server_.handle(request, kept, {.may_take_long = true, .client = server_.client_of(request)});
        return kept->answer;
    }

    std::function<void()> infer(KserveInferCall call) override {
        HttpRequest head;
        head.id = call.id;
        head.method = "POST";
        head.path = "/v2/models/" + call.model + "/infer";
        head.headers = std::move(call.headers);
        if (const auto refusal = server_.refuse(head)) {
            call.fail(refusal->status, error_text(*refusal));
            return [] {};
        }
        const auto record = make_record(context_, call.id, "GRPC", head.path);
        const auto fail = [record, fail = call.fail](const ApiError& e) {
            if (record != nullptr) {
                record->status = e.status;
                record->error = e.code;
            }
            fail(e.status, e.message);
        };
        if (record != nullptr) record->status = 200;
        try {
            return start(call, head, record, fail);
        } catch (...) {
            ++context_.metrics.received;
            ++context_.metrics.rejected;
            fail(current_error(context_));
        }
        return [] {};
    }

 private:
    std::function<void()> start(KserveInferCall& call, const HttpRequest& head,
                                const std::shared_ptr<AccessRecord>& record,
                                const std::function<void(const ApiError&)>& fail) {
        check_kserve_version(call.model, call.version);
        std::vector<KserveTensor> inputs;
        for (KserveRawTensor& raw : call.inputs) inputs.push_back(tensor_of(raw));
        std::vector<KserveQuestion::Output> outputs;
        for (std::string& name : call.outputs) outputs.push_back({std::move(name)});
        if (outputs.empty()) {
            for (const KserveTensorInfo& o : kserve_outputs()) outputs.push_back({std::string(o.name)});
        }
        const auto warnings = std::make_shared<std::vector<std::string>>();
        KserveQuestion question = make_kserve_question(inputs, std::move(call.parameters), std::move(outputs),
                                                       {context_.strict, *warnings});
        if (!call.streams && question.streams == true)
            throw bad_request("not_supported", "stream",
                              "stream: ModelInfer gives one response; "
                              "ModelStreamInfer streams");
        question.request.model = call.model;
        const std::string key = server_.client_of(head);
        const auto respond = [warnings, respond = call.respond](KserveResponse r) {
            std::vector<KserveRawTensor> raw;
            for (const KserveTensor& t : r.outputs) {
                raw.push_back({.name = t.name,
                               .datatype = t.datatype,
                               .shape = t.shape,
                               .bytes = encode_kserve_data(t)});
            }
            respond(std::move(raw), r.is_last, r.is_last ? joined(*warnings) : "");
        };
        const auto task =
            std::make_shared<KserveTask>(context_, std::move(question),
                                         KserveTask::Options{.streams = call.streams,
                                                             .key = key,
                                                             .turn = {.may_take_long = true, .client = key},
                                                             .record = record},
                                         KserveCaller{.post = post_, .respond = respond, .fail = fail});
        return [post = post_, task] { post([task] { task->cancel(); }); };
    }

    ApiServer& server_;
    ServerContext& context_;
    std::function<void(std::function<void()>)> post_;
};

}  // namespace

std::unique_ptr<KserveHost> make_kserve_host(ApiServer& server, ServerContext& context,
                                             std::function<void(std::function<void()>)> post) {
    return std::make_unique<ServerHost>(server, context, std::move(post));
}

}  // namespace smelt
