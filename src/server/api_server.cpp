// Guards first, then the route, then the body against its schema.
#include "server/api_server.h"

#include <charconv>

#include "base/memory_reserve.h"
#include "server/json_bytes.h"

namespace smelt {

namespace {

bool is_socket(const Route& r) {
    return r.handle == nullptr;
}

// Of the body; binary data is what follows.
size_t json_length(const HttpRequest& request) {
    const std::string* header = request.header("inference-header-content-length");
    if (header == nullptr) return request.body.size();
    size_t n = 0;
    const auto [end, error] = std::from_chars(header->data(), header->data() + header->size(), n);
    if (error == std::errc() && end == header->data() + header->size() && n <= request.body.size()) return n;
    throw bad_request("invalid_value", "inference-header-content-length",
                      "inference-header-content-length: expected 0 to the body's {} bytes, found {}",
                      request.body.size(), header->substr(0, 40));
}

}  // namespace

std::optional<HttpAnswer> ApiServer::refuse(const HttpRequest& head) {
    auto answer = find_refusal(head);
    if (!answer) return answer;
    if (const auto record = make_record(context_, head.id, head.method, head.path))
        record->status = answer->status;
    return answer;
}

std::optional<HttpAnswer> ApiServer::find_refusal(const HttpRequest& head) {
    const ErrorStyle style = error_style(head.path);
    if (const auto e = check_host(head, context_.access)) return error_answer(*e, style);
    const std::string methods = allowed_methods(head.path);
    if (methods.empty()) {
        return error_answer({.status = 404,
                             .code = "",
                             .message = fmt::format("Invalid URL ({} {})", head.method.substr(0, 20),
                                                    head.path.substr(0, 200))},
                            style);
    }
    // A page that may not is told so by what is missing: cors_headers() gives it none.
    if (head.method == "OPTIONS")
        return HttpAnswer{.status = 200, .headers = {{"allow", methods + ", OPTIONS"}}};
    if (const auto e = check_origin(head, context_.access)) return error_answer(*e, style);
    const Route* route = find_route(head.method, head.path);
    if (route == nullptr) {
        HttpAnswer answer =
            error_answer({.status = 405,
                          .code = "method_not_allowed",
                          .message = fmt::format("{} does not take {}, but {}", head.path.substr(0, 200),
                                                 head.method.substr(0, 20), methods)},
                         style);
        answer.headers.emplace_back("allow", methods);
        return answer;
    }
    if (const auto e = check_key(head, route->access, context_.access)) return error_answer(*e, style);
    if (route->generates && !renew_memory_reserve()) {
        return error_answer(
            {.status = 503, .code = "insufficient_memory", .message = "too little memory", .retry_after = 1},
            style);
    }
    if (is_socket(*route) && !head.wants_websocket) {
        HttpAnswer answer = error_answer({.status = 426, .code = "", .message = "this is a WebSocket"});
        answer.headers.emplace_back("upgrade", "websocket");
        return answer;
    }
    if (!is_socket(*route) && head.wants_websocket) {
        return error_answer(
            {.status = 400, .code = "bad_http", .message = "this is no WebSocket; /ws/stream is"});
    }
    return std::nullopt;
}

bool ApiServer::is_short(const HttpRequest& request) {
    const Route* route = find_route(request.method, request.path);
    return route != nullptr && route->is_short;
}

std::string ApiServer::client_of(const HttpRequest& head) {
    return context_.access.api_keys.empty() ? "" : key_of(head);
}

void ApiServer::handle(const HttpRequest& request, const std::shared_ptr<Exchange>& http,
                       const WorkerTurn& turn) {
    const Route& route = *find_route(request.method, request.path);
    // Longer texts take their time in template and tokenizer.
    constexpr size_t short_body = size_t{64} << 10;
    if (!turn.may_take_long && request.body.size() > short_body) throw TakesLong{};
    const auto record = make_record(context_, request.id, request.method, request.path);
    const auto exchange = logged(http, record);
    const ErrorStyle style = error_style(request.path);
    const auto work = [&] {
        if (turn.is_over()) throw shutting_down();
        const std::string key = context_.access.api_keys.empty() ? "" : key_of(request);
        HttpRequest head;  // without the body
        head.id = request.id;
        head.method = request.method;
        head.path = request.path;
        head.query = request.query;
        head.headers = request.headers;
        Call call{.server = context_,
                  .request = std::move(head),
                  .body = {},
                  .key = key,
                  .exchange = exchange,
                  .record = record,
                  .turn = turn,
                  .name = path_name(route, request.path)};
        if (route.body != nullptr) {
            std::string_view json = request.body;
            if (route.binary) {
                json = json.substr(0, json_length(request));
                call.binary = request.body.substr(json.size());
                require(exchange->hold(3 * call.binary.size()));  // as values, and as prompts
            }
            if (json.empty() && route.body->may_be_empty) json = "{}";
            require(exchange->hold(json_bytes(json)));
            try {
                call.body = parse_json(json, "request body", {.max_values = context_.max_json_values});
            } catch (const Error& e) {
                throw bad_request("invalid_json", "", "{}", e.what());
            }
            if (call.body.is_array() && !route.body->list.empty())
                call.body = Json{{std::string(route.body->list), Json(call.body)}};
            call.warnings = check_body(call.body, *route.body, context_.strict);
        }
        route.handle(call);
    };
    try {
        answer_errors(context_, *exchange, route.generates, work, style);
    } catch (const TakesLong&) {
        if (record != nullptr) record->discard();  // it is asked again
        throw;
    }
}

std::shared_ptr<WebSocketListener> ApiServer::open_websocket(const HttpRequest& head,
                                                             std::shared_ptr<WebSocketPeer> peer) {
    return open_stream(context_, std::move(peer), context_.access.api_keys.empty() ? "" : key_of(head));
}

HttpAnswer ApiServer::error(int status, std::string_view code, std::string_view message) {
    if (status == 500) ++context_.metrics.internal_errors;
    // What HTTP itself refused has no record of its own.
    if (const auto record = status < 500 ? make_record(context_, "", "-", "-") : nullptr) {
        record->status = status;
        record->error = code;
    }
    return error_answer({.status = status,
                         .code = std::string(code),
                         .message = std::string(message),
                         .retry_after = status == 503 ? 1 : 0});
}

HttpHeaders ApiServer::common_headers(const HttpRequest& head) {
    return cors_headers(head, context_.access);
}

}  // namespace smelt
