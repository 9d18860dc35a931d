// What a client gets instead of an answer: a status, and an error in its dialect. Thrown inside this room
// alone, and turned into a body in one place; it never crosses into the engine.
#pragma once

#include <string>

#include "base/error.h"
#include "base/json.h"
#include "server/http/http.h"

namespace smelt {

struct ApiError {
    int status = 400;
    std::string code, message;
    std::string param = {};       // the field; empty: null
    int retry_after = 0;          // seconds; 0: no such header
    int n_prompt = 0, n_ctx = 0;  // of a prompt that does not fit
};

class RequestError : public Error {
 public:
    explicit RequestError(ApiError e) : Error(e.message), error(std::move(e)) {}
    const ApiError error;
};

// Throws RequestError: what requests may hold is held (503), or this one would hold too much by itself (413).
void require(Held held);
ApiError memory_error(Held held);
// The server ends.
RequestError shutting_down();

template <class... Args>
RequestError bad_request(std::string code, std::string param, fmt::format_string<Args...> text,
                         Args&&... args) {
    return RequestError({.status = 400,
                         .code = std::move(code),
                         .message = fmt::format(text, std::forward<Args>(args)...),
                         .param = std::move(param)});
}

enum class ErrorStyle {
    openai,     // {"error": {"message", "type", "param", "code"}}, all four always there
    anthropic,  // {"type": "error", "error": {"type", "message", "param", "code"}}, the last two our own
    ollama,     // {"error": "message"}
    kserve,     // the same
    llama_cpp,  // {"error": {"code": 400, "message", "type", "param"}}, and the numbers of a full context
};
Json error_body(const ApiError& error, ErrorStyle style = ErrorStyle::openai);
HttpAnswer error_answer(const ApiError& error, ErrorStyle style = ErrorStyle::openai);

}  // namespace smelt
