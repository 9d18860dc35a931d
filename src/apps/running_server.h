// --url and keys of the verbs that speak to a server that runs (ps, stop).
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "apps/connection.h"
#include "base/json.h"

namespace smelt {

struct RunningServer {
    std::string url = "http://127.0.0.1:8080", key = {};

    // The answer's body. Throws Error with what the server said, or that there is none and how to start one.
    Json ask(const char* method, const std::string& path, const Json& body = nullptr) const;
};

void add_server_options(CLI::App& verb, RunningServer& server, const char* key_flag,
                        const char* key_variable);

}  // namespace smelt
