// Both bundled models behind one server, asked by the tests of a suite.
#pragma once

#include <gtest/gtest.h>

#include "server/client.h"

namespace smelt {

inline std::vector<Json> events(const std::string& body) {
    std::vector<Json> all;
    size_t at = 0;
    while ((at = body.find("data: ", at)) != std::string::npos) {
        const size_t end = body.find("\n\n", at);
        const std::string text = body.substr(at + 6, end - at - 6);
        all.push_back(text == "[DONE]" ? Json("[DONE]") : Json::parse(text));
        at = end;
    }
    return all;
}

// A route's path with a model where it has {model}.
inline std::string asked_path(std::string path) {
    constexpr std::string_view model = "{model}";
    if (const size_t at = path.find(model); at != path.npos) path.replace(at, model.size(), "demo-23m");
    return path;
}

class ApiTest : public ::testing::Test {
 protected:
    static void SetUpTestSuite() { server_ = new TestServer({.models = {"demo-5m", "demo-23m"}}); }
    static void TearDownTestSuite() {
        delete server_;
        server_ = nullptr;
    }
    Reply post(const std::string& path, const Json& body) {
        Client client(server_->port());
        return client.ask("POST", path, to_string(body));
    }
    Reply get(const std::string& path) {
        Client client(server_->port());
        return client.ask("GET", path);
    }
    inline static TestServer* server_ = nullptr;
};
inline const Json question = Json::array({{{"role", "user"}, {"content", "What is 12 + 30?"}}});

}  // namespace smelt
