// Error type and headers follow from the status.
#include "server/api_error.h"

namespace smelt {

namespace {

const char* error_type(int status) {
    if (status == 403) return "permission_error";
    if (status == 429) return "rate_limit_error";
    if (status >= 500 && status != 501) return "server_error";
    return "invalid_request_error";
}

const char* anthropic_error_type(int status) {
    switch (status) {
        case 401:
            return "authentication_error";
        case 403:
            return "permission_error";
        case 404:
            return "not_found_error";
        case 413:
            return "request_too_large";
        case 429:
            return "rate_limit_error";
        case 503:
            return "overloaded_error";
        default:
            return status >= 500 ? "api_error" : "invalid_request_error";
    }
}

const char* llama_cpp_error_type(const ApiError& e) {
    if (e.n_ctx > 0) return "exceed_context_size_error";
    switch (e.status) {
        case 401:
            return "authentication_error";
        case 403:
            return "permission_error";
        case 404:
            return "not_found_error";
        case 501:
            return "not_supported_error";
        case 503:
            return "unavailable_error";
        default:
            return e.status >= 500 ? "server_error" : "invalid_request_error";
    }
}

Json or_null(const std::string& text) {
    return text.empty() ? Json() : Json(text);
}

// A fault's text may quote what was sent, which may be 15 MB.
std::string shortened(const std::string& text) {
    constexpr size_t longest = 1000;  // bytes
    if (text.size() <= longest) return text;
    size_t end = longest;
    while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;  // whole characters
    return text.substr(0, end) + "...";
}

}  // namespace

RequestError shutting_down() {
    return RequestError(
        {.status = 503, .code = "shutting_down", .message = "the server ends", .retry_after = 5});
}

void require(Held held) {
    if (held != Held::yes) throw RequestError(memory_error(held));
}

ApiError memory_error(Held held) {
    if (held == Held::never) {
        return {.status = 413,
                .code = "request_too_large",
                .message = "the request and its answer take more memory than one client may have"};
    }
    return {.status = 503,
            .code = "insufficient_memory",
            .message = "the memory for requests and answers, of which a client may have half, is in use",
            .retry_after = 1};
}

Json error_body(const ApiError& e, ErrorStyle style) {
    const std::string message = shortened(e.message), param = shortened(e.param);
    if (style == ErrorStyle::ollama || style == ErrorStyle::kserve) return {{"error", message}};
    if (style == ErrorStyle::llama_cpp) {
        Json error = {{"code", e.status},
                      {"message", message},
                      {"type", llama_cpp_error_type(e)},
                      {"param", or_null(param)}};
        if (e.n_ctx > 0) error.update({{"n_prompt_tokens", e.n_prompt}, {"n_ctx", e.n_ctx}});
        return {{"error", std::move(error)}};
    }
    if (style == ErrorStyle::anthropic) {
        Json body = {{"type", "error"},
                     {"error",
                      {{"type", anthropic_error_type(e.status)},
                       {"message", message},
                       {"param", or_null(param)},
                       {"code", or_null(e.code)}}}};
        // Where Anthropic's own client looks before it goes on without threads.
        if (e.code == "thread_unsupported_request") {
            body["error"]["details"] = {{"error_code", e.code}, {"unsupported", {e.param}}};
        }
        return body;
    }
    return {{"error",
             {{"message", message},
              {"type", error_type(e.status)},
              {"param", or_null(param)},
              {"code", or_null(e.code)}}}};
}

HttpAnswer error_answer(const ApiError& e, ErrorStyle style) {
    HttpAnswer answer{.status = e.status, .body = to_string(error_body(e, style))};
    if (e.retry_after > 0) answer.headers.emplace_back("retry-after", std::to_string(e.retry_after));
    // OpenAI's clients repeat 5xx unless they are told not to.
    if (e.status >= 500) answer.headers.emplace_back("x-should-retry", e.retry_after > 0 ? "true" : "false");
    if (e.status == 401) answer.headers.emplace_back("www-authenticate", "Bearer");
    return answer;
}

}  // namespace smelt
