// What the gRPC library (kserve_grpc.cpp, opened at run time) asks of the server and the other way round:
// plain values and functions, so that neither needs a symbol of the other. It has the HTTP server's keys,
// models and books.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/http/http.h"

namespace smelt {

struct KserveRawTensor {
    std::string name = {}, datatype = {};
    std::vector<int64_t> shape = {};
    bool is_raw = true;
    std::string bytes = {};     // little-endian, as the binary extension has them
    Json data = Json::array();  // where it is not raw
};

struct KserveInferCall {
    HttpHeaders headers = {};  // names in lower case; keys are in them
    std::string id = {}, model = {}, version = {};
    std::vector<KserveRawTensor> inputs = {};
    Json parameters = Json::object();
    std::vector<std::string> outputs = {};  // empty: all
    bool streams = false;                   // where the parameters do not say
    // Until is_last or a failure, one at a time. The status is HTTP's.
    std::function<void(std::vector<KserveRawTensor> outputs, bool is_last, std::string warnings)> respond =
        {};
    std::function<void(int status, std::string message)> fail = {};
};

class KserveHost {
 public:
    virtual ~KserveHost() = default;

    // An answer of one of the routes, as over HTTP.
    virtual HttpAnswer ask(HttpRequest request) = 0;
    // Returns what cancels it: nothing is called after that, once what runs has returned. From any thread.
    virtual std::function<void()> infer(KserveInferCall call) = 0;
};

class ApiServer;
struct ServerContext;
// `post` runs work on the I/O thread.
std::unique_ptr<KserveHost> make_kserve_host(ApiServer& server, ServerContext& context,
                                             std::function<void(std::function<void()>)> post);

struct GrpcOptions {
    std::string host;
    int port = 0;                            // 0: a free one
    std::string certificate = {}, key = {};  // PEM texts; empty: no TLS
    size_t max_body_bytes = size_t{16} << 20;
};

class GrpcServer {
 public:
    virtual ~GrpcServer() = default;
    virtual int port() const = 0;
    // Calls that run are cut; returns when nothing calls the host any more.
    virtual void stop() = 0;
};

// The one symbol of the library. Null where it cannot listen: `error` says why.
using StartGrpc = GrpcServer*(KserveHost& host, const GrpcOptions& options, std::string& error);
inline constexpr const char* start_grpc_symbol = "smelt_start_grpc";

}  // namespace smelt
