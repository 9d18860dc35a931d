// Errors of servers in one line.
#include "apps/running_server.h"

#include "base/error.h"

namespace smelt {

Json RunningServer::ask(const char* method, const std::string& path, const Json& body) const {
    ServerAnswer answer;
    try {
        answer =
            ask_server(parse_server_address(url), method, path, body.is_null() ? "" : to_string(body), key);
    } catch (const Error& e) {
        throw Error("{}; smelt serve MODEL starts one, --url says where it is", e.what());
    }
    Json json;
    try {
        json = parse_json(answer.body, url + path);
    } catch (const Error&) {
        throw Error("{}{}: status {}, expected a server of smelt", url, path, answer.status);
    }
    if (answer.status == 200) return json;
    const auto error = json.find("error");
    const bool says = error != json.end() && error->is_object() && error->contains("message");
    throw Error("{}{}: {}", url, path,
                says ? error->at("message").get<std::string>() : fmt::format("status {}", answer.status));
}

void add_server_options(CLI::App& verb, RunningServer& server, const char* key_flag,
                        const char* key_variable) {
    verb.add_option("--url", server.url, "Where the server is")->envname("SMELT_URL")->capture_default_str();
    verb.add_option(key_flag, server.key, "The key that it asks for")->envname(key_variable);
}

}  // namespace smelt
