// The chat page, the dashboard, the documentation, and what they load. They are open to all: what they ask
// for is not.
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

const WebFile& find_file(std::span<const WebFile> files, std::string_view name) {
    const auto file = std::ranges::find(files, name, &WebFile::name);
    if (file == files.end()) {
        throw RequestError({.status = 404, .code = "", .message = "there is no such file"});
    }
    return *file;
}

void send_page(Call& call, std::string_view name, std::string_view body, HttpHeaders more = {}) {
    more.insert(more.end(), {{"content-security-policy", policy},
                             {"referrer-policy", "no-referrer"},
                             {"cache-control", "no-cache"}});
    call.exchange->send({.body = std::string(body), .type = type_of(name), .headers = std::move(more)});
}

void send_file(Call& call, std::string_view name) {
    send_page(call, name, find_file(web_files(), name).text);
}

// Whether the client takes it; one that says nothing takes everything (RFC 9110, 12.5.3).
bool takes_gzip(const HttpRequest& request) {
    const std::string* accepted = request.header("accept-encoding");
    return accepted == nullptr || accepted->find("gzip") != std::string::npos ||
           accepted->find('*') != std::string::npos;
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

// The pages are below docs/, and so are their links; a proxy may have put something before it.
void docs_site(Call& call) {
    find_file(doc_files(), "index.html");
    send_page(call, "docs.html",
              "<!doctype html><html lang=en><meta charset=utf-8><title>smelt</title>"
              "<link rel=icon href=docs/icon.svg><meta http-equiv=refresh content='0;url=docs/index.html'>"
              "<a href=docs/index.html>Documentation</a></html>");
}

void docs_site_file(Call& call) {
    const WebFile& file = find_file(doc_files(), call.name);
    if (!takes_gzip(call.request)) {
        throw RequestError(
            {.status = 406,
             .code = "",
             .message = "the documentation is here as gzip alone: accept-encoding must allow it"});
    }
    send_page(call, call.name, file.text, {{"content-encoding", "gzip"}, {"vary", "accept-encoding"}});
}

}  // namespace smelt
