// Who may ask: Host and Origin against other people's web pages, keys against other people. Pure.
#pragma once

#include <optional>

#include "server/api_error.h"

namespace smelt {

enum class Access {
    open,       // health, documentation
    inference,  // with a key where there are keys
    admin,      // with an admin key; off without one
};

struct AccessOptions {
    std::vector<std::string> api_keys = {}, admin_keys = {};
    std::vector<std::string> allowed_hosts = {};  // beside IP addresses, localhost and this machine's name
    std::vector<std::string> cors_origins = {};   // "https://example.org", "localhost", "*"
    bool admin_without_key = false;
};

// A web page of someone else reaches a server on loopback under a name of its own (DNS rebinding); addresses
// and the machine's own names cannot be forged so.
std::optional<ApiError> check_host(const HttpRequest& request, const AccessOptions& options);
// A page of another origin may read what anyone may, but change nothing and open no socket.
std::optional<ApiError> check_origin(const HttpRequest& request, const AccessOptions& options);
std::optional<ApiError> check_key(const HttpRequest& request, Access access, const AccessOptions& options);
// Why a text cannot be a key: it is empty, or no header can carry it. Empty: it can.
std::string key_problem(std::string_view key);
// The key that the request carries, right or wrong; empty: none.
std::string key_of(const HttpRequest& request);

// Of CORS; none for an origin that is not allowed.
HttpHeaders cors_headers(const HttpRequest& request, const AccessOptions& options);

// Takes as long for the wrong key as for the right one.
bool equal_in_constant_time(std::string_view given, std::string_view secret);

bool is_loopback(std::string_view host);

}  // namespace smelt
