// What the OpenAPI document promises of answers is what they hold.
#include "server/api_fixture.h"

namespace smelt {
namespace {

using OpenApiTest = ApiTest;

bool is_of(const Json& value, const std::string& type) {
    if (type == "object") return value.is_object();
    if (type == "array") return value.is_array();
    if (type == "string") return value.is_string();
    if (type == "boolean") return value.is_boolean();
    if (type == "integer") return value.is_number_integer();
    if (type == "number") return value.is_number();
    return type == "null" && value.is_null();
}

// The few words of JSON schema that the document uses of answers.
class Comparison {
 public:
    explicit Comparison(const Json& document) : schemas_(document["components"]["schemas"]) {}

    void compare(const std::string& at, const Json& schema, const Json& value) const {
        if (schema.contains("$ref")) {
            const std::string name = schema["$ref"];
            const std::string key = name.substr(name.rfind('/') + 1);
            ASSERT_TRUE(schemas_.contains(key)) << name;
            return compare(at, schemas_[key], value);
        }
        if (schema.contains("type")) {
            const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
            EXPECT_TRUE(std::ranges::any_of(types, [&](const Json& t) { return is_of(value, t); }))
                << at << ": expected " << types << ", found " << to_string(value).substr(0, 100);
        }
        if (schema.contains("enum")) {
            EXPECT_NE(std::ranges::find(schema["enum"], value), schema["enum"].end()) << at << ": " << value;
        }
        for (const Json& name : schema.value("required", Json::array())) {
            EXPECT_TRUE(value.contains(name.get<std::string>())) << at << ": no " << name;
        }
        const Json properties = schema.value("properties", Json::object());
        for (const auto& [name, inner] : properties.items()) {
            if (value.contains(name)) compare(at + "." + name, inner, value[name]);
        }
        if (value.is_array() && schema.contains("items")) {
            for (size_t i = 0; i < value.size(); ++i) {
                compare(fmt::format("{}[{}]", at, i), schema["items"], value[i]);
            }
        }
    }

 private:
    const Json& schemas_;
};

TEST_F(OpenApiTest, AnswersAreAsDescribed) {
    const Json document = get("/openapi.json").json();
    const Comparison comparison(document);
    int n_compared = 0;
    const std::string stored =
        post("/v1/responses",
             {{"model", "demo-5m"}, {"input", "hi"}, {"max_output_tokens", 4}, {"store", true}})
            .json()["id"];
    for (const Route& r : routes()) {
        if (r.access == Access::admin || r.handle == nullptr) continue;
        const Json& operation = document["paths"][r.path][r.body == nullptr ? "get" : "post"];
        const Json& content = operation["responses"]["200"]["content"];
        ASSERT_TRUE(content.is_object()) << r.path;
        std::string path = asked_path(r.path);
        if (path == "/v1/models/{id}") path = "/v1/models/demo-5m";
        if (path == "/v1/responses/{id}") path = "/v1/responses/" + stored;
        if (path == "/infill" || r.method == std::string("DELETE")) continue;
        if (path.ends_with("{file}")) continue;
        Json body;
        if (r.body != nullptr) {
            body = Json::parse(r.body->example);
            body["model"] = "demo-23m";
            body["colour"] = "blue";  // for a warning
        }
        const Reply reply = r.body == nullptr ? get(path) : post(path, body);
        ASSERT_EQ(reply.status, 200) << path << reply.body;
        const std::string type = reply.header("content-type");
        EXPECT_TRUE(content.contains(type.substr(0, type.find(';')))) << path << " " << type;
        if (!type.starts_with("application/json")) continue;
        comparison.compare(path, content["application/json"]["schema"], reply.json());
        ++n_compared;
    }
    EXPECT_GT(n_compared, 20);
}

TEST_F(OpenApiTest, ErrorsAreAsDescribed) {
    const Json document = get("/openapi.json").json();
    const Comparison comparison(document);
    for (const Route& r : routes()) {
        if (r.body == nullptr || r.access == Access::admin) continue;
        if (r.body->may_be_empty) continue;
        const Reply reply = post(asked_path(r.path), {{"model", 5}});
        EXPECT_EQ(reply.status, 400) << r.path;
        comparison.compare(r.path,
                           document["paths"][r.path]["post"]["responses"]["default"]["content"]
                                   ["application/json"]["schema"],
                           reply.json());
    }
}

TEST_F(OpenApiTest, ToolCallsAndFormsAreAsDescribed) {
    const Json document = get("/openapi.json").json();
    const Json call =
        parse_json(R"({"model": "demo-23m", "temperature": 0, "max_tokens": 100, "tool_choice": "required",
        "messages": [{"role": "user", "content": "What is the weather in Paris?"}], "tools": [{"type": "function",
        "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}},
        "required": ["city"]}}}]})",
                   "request");
    const Json answer = post("/v1/chat/completions", call).json();
    EXPECT_EQ(answer["choices"][0]["message"]["tool_calls"].size(), 1u) << answer;
    Comparison(document).compare("chat", document["components"]["schemas"]["ChatCompletion"], answer);
}

}  // namespace
}  // namespace smelt
