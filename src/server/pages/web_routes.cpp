// The chat page, the dashboard, and what they load. They are open to all: what they ask for is not.
#include <algorithm>

#include "server/pages/web_files.h"
#include "server/routes.h"

namespace smelt {

namespace {

// Nothing from elsewhere, no script in the page, and no text that becomes HTML. Pictures that a person shows
// are data: addresses.
constexpr const char* policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'";

const char* type_of(std::string_view name) {
    if (name.ends_with(".html")) return "text/html; charset=utf-8";
    if (name.ends_with(".css")) return "text/css; charset=utf-8";
    if (name.ends_with(".svg")) return "image/svg+xml";
    if (name.ends_with(".txt")) return "text/plain; charset=utf-8";
    return "text/javascript; charset=utf-8";
}

void send_file(Call& call, std::string_view name) {
    const auto file = std::ranges::find(web_files(), name, &WebFile::name);
    if (file == web_files().end()) {
        throw RequestError({.status = 404, .code = "", .message = "there is no such file"});
    }
    call.exchange->send({.body = std::string(file->text),
                         .type = type_of(name),
                         .headers = {{"content-security-policy", policy},
                                     {"referrer-policy", "no-referrer"},
                                     {"cache-control", "no-cache"}}});
}

}  // namespace

void chat_page(Call& call) {
    send_file(call, "chat.html");
}

void dashboard_page(Call& call) {
    send_file(call, "dashboard.html");
}

void web_file(Call& call) {
    send_file(call, call.name);
}

}  // namespace smelt
