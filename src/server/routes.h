// The one table of routes: path, who may call it, what its body is, what answers. 404, 405, keys, the OpenAPI
// document and the documentation page come from it.
#pragma once

#include <span>

#include "server/access_log.h"
#include "server/dialects/schema.h"
#include "server/guard.h"
#include "server/models/cache_salt.h"
#include "server/models/job.h"
#include "server/models/model_set.h"
#include "server/models/response_store.h"

namespace smelt {

struct ServerContext {
    ModelSet& models;
    AccessOptions access = {};
    bool shared_prefix_cache = false;  // among API keys
    CacheSalts salts = {};
    bool strict = false;                // unknown fields are refused
    std::optional<uint64_t> seed = {};  // of requests without one
    int max_tokens = -1;                // the same
    size_t max_json_values = size_t{1} << 20;
    std::string version = {};
    std::string address = "http://127.0.0.1:8080";  // for the examples of the documentation
    std::function<size_t()> n_connections = {};
    std::shared_ptr<ResponseStore> responses = std::make_shared<ResponseStore>();  // never null
    std::function<void(const AccessRecord&)> access_log = {};  // for each request at its end; empty: none
    ServerMetrics metrics = {};
    std::chrono::steady_clock::time_point started = std::chrono::steady_clock::now();
};

struct Call {
    ServerContext& server;
    HttpRequest request;
    Json body;        // checked against the route's schema; null where it has none
    std::string key;  // of who asks, where there are keys
    std::shared_ptr<Exchange> exchange;
    std::shared_ptr<AccessRecord> record = {};  // null: nobody wants to know
    WorkerTurn turn = {};
    std::vector<std::string> warnings = {};  // fields of the body that are not known
    std::string name = {};                   // what stands for the {...} of the route's path
    std::string binary = {};                 // what follows the JSON of the body
};

struct Route {
    const char* method;
    const char* path;  // {name} in it stands for anything
    Access access;
    bool is_short;  // answered on the I/O thread
    const RequestSchema* body;
    void (*handle)(Call& call);  // throws RequestError
    const char* doc;
    bool generates = false;  // answers are what the books are about
    ErrorStyle errors = ErrorStyle::openai;
    bool binary = false;  // bytes may follow the JSON of the body, as inference-header-content-length says
};

std::span<const Route> routes();
const Route* find_route(std::string_view method, std::string_view path);
// What stands in the path for the {name} of the route's.
std::string path_name(const Route& route, std::string_view path);
ErrorStyle error_style(std::string_view path);
std::shared_ptr<AccessRecord> make_record(const ServerContext& server, const std::string& id,
                                          const std::string& method, const std::string& path);
std::string allowed_methods(std::string_view path);  // "GET, POST"; empty: no such path

// What it is for a client that something was thrown. Inside a catch block.
ApiError current_error(ServerContext& server);
// Turns whatever `work` throws into an answer. Counts requests for answers that were refused.
void answer_errors(ServerContext& server, Exchange& exchange, bool counts, const std::function<void()>& work,
                   ErrorStyle style = ErrorStyle::openai);

// openai_routes.cpp
void chat_completions(Call& call);
void completions(Call& call);
// generate.cpp
void generate(Call& call);
// stream_socket.cpp
std::shared_ptr<WebSocketListener> open_stream(ServerContext& server, std::shared_ptr<WebSocketPeer> peer,
                                               std::string key);
// responses.cpp
void responses(Call& call);
void show_response(Call& call);
void delete_response(Call& call);
// llama_cpp.cpp
void native_completion(Call& call);
void native_infill(Call& call);
void native_slots(Call& call);
void native_props(Call& call);
// lora.cpp
void list_adapters(Call& call);
void set_adapter_scales(Call& call);
void load_adapter(Call& call);
void unload_adapter(Call& call);
// rerank.cpp
void rerank(Call& call);
// embeddings.cpp
void embeddings(Call& call);
void ollama_embed(Call& call);
void ollama_embeddings(Call& call);
// anthropic.cpp
void anthropic_messages(Call& call);
void anthropic_count_tokens(Call& call);
void chat_count_tokens(Call& call);
void responses_count_tokens(Call& call);
// ollama.cpp
void ollama_chat(Call& call);
void ollama_generate(Call& call);
std::string ollama_time(std::chrono::system_clock::time_point t);
// ollama_models.cpp
void ollama_version(Call& call);
void ollama_tags(Call& call);
void ollama_ps(Call& call);
void ollama_show(Call& call);
// kserve.cpp
void kserve_infer(Call& call);
void kserve_generate(Call& call);
void kserve_generate_stream(Call& call);
// kserve_models.cpp
void kserve_server(Call& call);
void kserve_live(Call& call);
void kserve_ready(Call& call);
void kserve_model(Call& call);
void kserve_model_ready(Call& call);
void kserve_model_config(Call& call);
void kserve_index(Call& call);
void kserve_load(Call& call);
void kserve_unload(Call& call);
// text_routes.cpp
void tokenize(Call& call);
void detokenize(Call& call);
void apply_template(Call& call);
// status_routes.cpp
void health(Call& call);
void list_models(Call& call);
void show_model(Call& call);
void list_models_in_detail(Call& call);
void performance(Call& call);
void metrics_text(Call& call);
void load_model_route(Call& call);
void unload_model_route(Call& call);
// web_routes.cpp
void chat_page(Call& call);
void dashboard_page(Call& call);
void web_file(Call& call);
void docs_site(Call& call);
void docs_site_file(Call& call);
// docs_page.cpp
void docs_page(Call& call);
void openapi(Call& call);
Json openapi_document(const ServerContext& server);

}  // namespace smelt
