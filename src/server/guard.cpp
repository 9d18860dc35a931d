// Header values are compared as text; no name is ever resolved for a request.
#include "server/guard.h"

#include <arpa/inet.h>
#include <unistd.h>

#include <algorithm>

#include "base/ascii.h"

namespace smelt {

namespace {

// "localhost:8080" -> "localhost", "[::1]:8080" -> "::1"
std::string host_name(std::string_view host) {
    if (host.starts_with('[')) {
        const size_t end = host.find(']');
        return ascii_lower(host.substr(1, end == std::string_view::npos ? end : end - 1));
    }
    return ascii_lower(host.substr(0, host.rfind(':')));
}

bool is_address(const std::string& host) {
    in6_addr scratch;
    return inet_pton(AF_INET, host.c_str(), &scratch) == 1 ||
           inet_pton(AF_INET6, host.c_str(), &scratch) == 1;
}

std::string machine_name() {
    char name[256] = {};
    return gethostname(name, sizeof name - 1) == 0 ? ascii_lower(name) : "";
}

// A page of this machine: "http://127.0.0.1:3000".
bool is_local_page(std::string_view origin) {
    const size_t at = origin.find("://");
    if (at == std::string_view::npos || !origin.starts_with("http")) return false;
    const std::string_view host = origin.substr(at + 3);
    const size_t end = host.starts_with('[') ? std::min(host.find(']'), host.size() - 1) + 1 : host.find(':');
    const std::string_view rest = end < host.size() ? host.substr(end) : "";
    return is_loopback(host_name(host)) && (rest.empty() || rest.starts_with(':'));
}

bool is_in(std::string_view origin, const std::vector<std::string>& list) {
    return std::ranges::any_of(list, [&](const std::string& allowed) {
        return allowed == "*" || allowed == origin || (allowed == "localhost" && is_local_page(origin));
    });
}

bool is_allowed_origin(const HttpRequest& request, const AccessOptions& options) {
    const std::string* origin = request.header("origin");
    if (origin == nullptr) return true;
    if (is_in(*origin, options.cors_origins)) return true;
    const std::string* host = request.header("host");
    return host != nullptr && (*origin == "http://" + *host || *origin == "https://" + *host);
}

}  // namespace

bool is_loopback(std::string_view host) {
    return host == "localhost" || host == "::1" ||
           (host.starts_with("127.") && is_address(std::string(host)));
}

std::optional<ApiError> check_host(const HttpRequest& request, const AccessOptions& options) {
    const std::string* header = request.header("host");
    if (header == nullptr) return std::nullopt;  // HTTP/1.0; no browser
    const std::string name = host_name(*header);
    if (is_address(name) || name == "localhost" || name == machine_name()) return std::nullopt;
    for (const std::string& allowed : options.allowed_hosts) {
        if (allowed == "*" || ascii_lower(allowed) == name) return std::nullopt;
    }
    return ApiError{.status = 403,
                    .code = "host_not_allowed",
                    .message = "this host name is not served; --allowed-hosts adds names"};
}

std::optional<ApiError> check_origin(const HttpRequest& request, const AccessOptions& options) {
    const bool reads = request.method == "GET" || request.method == "HEAD";
    if ((reads && !request.wants_websocket) || is_allowed_origin(request, options)) return std::nullopt;
    return ApiError{.status = 403,
                    .code = "origin_not_allowed",
                    .message = "requests from this origin are not allowed; --cors-origins adds origins"};
}

bool equal_in_constant_time(std::string_view given, std::string_view secret) {
    // As many steps as the given text has bytes, whatever the secret is.
    size_t difference = given.size() ^ secret.size();
    for (size_t i = 0; i < given.size(); ++i) {
        const char s = secret.empty() ? '\0' : secret[i % secret.size()];
        difference |=
            static_cast<size_t>(static_cast<unsigned char>(given[i]) ^ static_cast<unsigned char>(s));
    }
    return difference == 0;
}

std::string key_problem(std::string_view key) {
    if (key.empty()) return "expected a key, found an empty text";
    const auto is_visible = [](char c) { return c > ' ' && c <= '~'; };
    if (!std::ranges::all_of(key, is_visible)) {
        return "expected a key of visible ASCII characters without blanks, found another character";
    }
    return "";
}

std::string key_of(const HttpRequest& request) {
    if (const std::string* h = request.header("authorization")) {
        const bool bearer =
            request.count("authorization") == 1 && h->size() > 7 && ascii_lower(h->substr(0, 7)) == "bearer ";
        return bearer ? h->substr(7) : "";
    }
    const std::string* x = request.header("x-api-key");
    return x == nullptr ? "" : *x;
}

std::optional<ApiError> check_key(const HttpRequest& request, Access access, const AccessOptions& options) {
    if (access == Access::open) return std::nullopt;
    if (access == Access::admin && options.admin_keys.empty() && !options.admin_without_key) {
        return ApiError{.status = 403,
                        .code = "feature_disabled",
                        .message = "admin routes are off; smelt serve --admin-key-file turns them on"};
    }
    const auto& keys = access == Access::admin ? options.admin_keys : options.api_keys;
    if (keys.empty() && (access != Access::admin || options.admin_without_key)) return std::nullopt;

    const std::string given = key_of(request);
    bool ok = false;
    for (const std::string& key : keys) ok = equal_in_constant_time(given, key) || ok;
    // An admin may do what everyone may.
    for (const std::string& key : options.admin_keys) ok = equal_in_constant_time(given, key) || ok;
    // Who carries no key has none, even if an empty one came past the checks of the options.
    if (ok && !given.empty()) return std::nullopt;
    return ApiError{.status = 401,
                    .code = "invalid_api_key",
                    .message = given.empty() ? "an API key is needed: Authorization: Bearer KEY"
                                             : "the API key is not valid"};
}

HttpHeaders cors_headers(const HttpRequest& request, const AccessOptions& options) {
    const std::string* origin = request.header("origin");
    if (origin == nullptr || options.cors_origins.empty()) return {};
    const auto& list = options.cors_origins;
    const bool any = std::ranges::find(list, "*") != list.end();
    if (!is_in(*origin, list)) return {};
    // Names as browsers' specifications write them: some clients look for nothing else.
    return {{"Access-Control-Allow-Origin", any ? "*" : *origin},
            {"Access-Control-Allow-Methods", "GET, POST, DELETE, OPTIONS"},
            {"Access-Control-Allow-Headers", "authorization, content-type, x-api-key"},
            {"Access-Control-Expose-Headers", "x-request-id"},
            {"Vary", "origin"}};
}

}  // namespace smelt
