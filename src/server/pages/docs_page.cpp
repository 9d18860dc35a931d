// The documentation page and the OpenAPI document, both from the route table and the request schemas.
#include "server/pages/answer_schemas.h"
#include "server/pages/web_files.h"
#include "server/routes.h"

namespace smelt {

namespace {

std::string escape(std::string_view text) {
    std::string s;
    for (const char c : text) {
        switch (c) {
            case '<':
                s += "&lt;";
                break;
            case '>':
                s += "&gt;";
                break;
            case '&':
                s += "&amp;";
                break;
            case '"':
                s += "&quot;";
                break;
            default:
                s += c;
        }
    }
    return s;
}

const char* who(Access access) {
    switch (access) {
        case Access::open:
            return "open to all";
        case Access::inference:
            return "needs a key where the server has keys";
        case Access::admin:
            return "needs an admin key";
    }
    return "";
}

std::string example(const Route& r, const ServerContext& server) {
    std::string path(r.path);
    if (const size_t brace = path.find('{'); brace != std::string::npos) {
        const auto models = server.models.all();
        const std::string name = path == "/docs/{file}"     ? "index.html"
                                 : path.ends_with("{file}") ? std::string(web_files().front().name)
                                 : models.empty()           ? "NAME"
                                                            : models.front()->name;
        path.replace(brace, path.find('}') + 1 - brace, name);
    }
    const char* key = r.access == Access::admin ? " -H 'Authorization: Bearer ADMIN_KEY'"
                      : r.access == Access::inference && !server.access.api_keys.empty()
                          ? " -H 'Authorization: Bearer KEY'"
                          : "";
    if (r.body == nullptr) return fmt::format("curl{} {}{}", key, server.address, path);
    return fmt::format("curl{} {}{} -d '{}'", key, server.address, path, r.body->example);
}

std::string field_rows(const RequestSchema& schema) {
    std::string rows;
    for (const Field& f : schema.fields) {
        rows +=
            fmt::format("<tr><td><code>{}</code>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n", f.name,
                        f.required ? " *" : "", escape(describe_type(f)), escape(f.fallback), escape(f.doc));
    }
    return rows;
}

constexpr std::string_view page_head =
    "<!doctype html><html lang=en><meta charset=utf-8><title>smelt</title>"
    "<meta name=viewport content='width=device-width,initial-scale=1'><style>"
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;"
    "background:#fff;overflow-wrap:anywhere}pre{background:#f4f4f4;padding:.6rem;overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;text-align:left;"
    "padding:.2rem .6rem .2rem 0;vertical-align:top}td:first-child{overflow-wrap:normal}"
    "small{color:#5c5c5c}a{color:#0b57a4}h2{margin-top:2.5rem}"
    // On a phone a field is a paragraph.
    "@media(max-width:40rem){tr,td{display:block}th{display:none}td{border:0;padding:0}"
    "tr{border-bottom:1px solid #ddd;padding:.4rem 0}td:empty{display:none}"
    "td:nth-child(3)::before{content:'default: '}}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#1b1b1b}pre{background:#2a2a2a}"
    "td,th,tr{border-color:#444}small{color:#a8a8a8}a{color:#8bf}}</style><main>";

}  // namespace

void docs_page(Call& call) {
    const ServerContext& server = call.server;
    std::string html(page_head);
    html += fmt::format("<h1>smelt {}</h1><p>Models: ", server.version);
    for (const auto& m : server.models.all()) html += fmt::format("<code>{}</code> ", escape(m->name));
    html +=
        "and <code>auto</code>. <a href=chat>Chat</a> with them, or see what they do on the "
        "<a href=dashboard>dashboard</a>. <a href=docs/index.html>Guides and reference</a>. The interface as "
        "<a href=openapi.json>OpenAPI</a>. Errors are "
        "OpenAI's error object; every answer carries <code>x-request-id</code>.</p>\n";
    for (const Route& r : routes()) {
        html += fmt::format("<h2><code>{} {}</code></h2><p>{} <small>({})</small></p>\n", r.method,
                            escape(r.path), escape(r.doc), who(r.access));
        html += fmt::format("<pre tabindex=0>{}</pre>\n", escape(example(r, server)));
        if (r.body == nullptr) continue;
        html +=
            "<table><tr><th>field<th>what<th>default<th>meaning</tr>\n" + field_rows(*r.body) + "</table>\n";
    }
    html += "</main>";
    call.exchange->send(
        {.body = std::move(html),
         .type = "text/html; charset=utf-8",
         .headers = {{"content-security-policy",
                      "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}}});
}

namespace {

Json reference(std::string_view name) {
    return {{"schema", {{"$ref", fmt::format("#/components/schemas/{}", name)}}}};
}

const char* error_schema(ErrorStyle style) {
    switch (style) {
        case ErrorStyle::openai:
            return "Error";
        case ErrorStyle::anthropic:
            return "AnthropicError";
        case ErrorStyle::ollama:
            return "OllamaError";
        case ErrorStyle::kserve:
            return "KserveError";
        case ErrorStyle::llama_cpp:
            return "LlamaError";
    }
    return "";
}

Json describe_answers(const Route& r) {
    const Json failure = {{"description", "an error"},
                          {"content", {{"application/json", reference(error_schema(r.errors))}}}};
    const AnswerSchema* a = find_answer_schema(r.path);
    if (a == nullptr) return {{"101", {{"description", "a WebSocket"}}}, {"default", failure}};
    Json content = {{std::string(a->type), a->name.empty() ? Json::object() : reference(a->name)}};
    if (!a->stream_type.empty()) content[std::string(a->stream_type)] = Json::object();
    return {{"200", {{"description", "done"}, {"content", std::move(content)}}}, {"default", failure}};
}

}  // namespace

Json openapi_document(const ServerContext& server) {
    Json paths = Json::object(), schemas = answer_schemas();
    for (const Route& r : routes()) {
        Json operation = {{"summary", r.doc}, {"responses", describe_answers(r)}};
        const std::string path(r.path);
        if (const size_t brace = path.find('{'); brace != std::string::npos) {
            const std::string name = path.substr(brace + 1, path.find('}') - brace - 1);
            operation["parameters"] = Json::array(
                {{{"name", name}, {"in", "path"}, {"required", true}, {"schema", {{"type", "string"}}}}});
        }
        if (r.access == Access::open) operation["security"] = Json::array();
        if (r.body != nullptr) {
            const std::string name(r.body->name);
            schemas[name] = openapi_schema(*r.body);
            operation["requestBody"] = {{"required", true},
                                        {"content", {{"application/json", reference(name)}}}};
        }
        paths[path][r.method == std::string_view("GET")      ? "get"
                    : r.method == std::string_view("DELETE") ? "delete"
                                                             : "post"] = std::move(operation);
    }
    return {{"openapi", "3.1.0"},
            {"info", {{"title", "smelt"}, {"version", server.version}}},
            {"servers", Json::array({{{"url", server.address}}})},
            {"security", Json::array({{{"key", Json::array()}}})},
            {"paths", std::move(paths)},
            {"components",
             {{"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}},
              {"schemas", std::move(schemas)}}}};
}

void openapi(Call& call) {
    call.exchange->send({.body = openapi_document(call.server).dump(2)});
}

}  // namespace smelt
