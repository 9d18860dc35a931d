// {"type": "content", "content": text or text parts}
#include "server/dialects/prediction.h"

#include "server/dialects/schema_checks.h"

namespace smelt {

namespace {

void check_prediction(const std::string& param, const Json& v) {
    check_object(param, v);
    if (need_string(param, v, "type") != "content") wrong_value(param + ".type", "content", v.at("type"));
    const Json& content = need_member(param, v, "content");
    if (content.is_string()) return;
    if (!content.is_array()) wrong_type(param + ".content", "a string, or an array of text parts", content);
    for (size_t i = 0; i < content.size(); ++i) {
        const std::string at = fmt::format("{}.content[{}]", param, i);
        const Json& part = content[i];
        check_object(at, part);
        if (need_string(at, part, "type") != "text") wrong_value(at + ".type", "text", part.at("type"));
        need_string(at, part, "text");
    }
}

}  // namespace

const CompoundType prediction_type = {
    .description = "{type: content, content: string or array of text parts}",
    .check = check_prediction,
    .openapi =
        R"({"type": "object", "required": ["type", "content"], "properties": {"type": {"type": "string", "enum": ["content"]}, "content": {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]}}})"};

std::string read_prediction(const Json& body) {
    const Json* prediction = find_member(body, "prediction");
    if (prediction == nullptr) return "";
    const Json& content = prediction->at("content");
    if (content.is_string()) return content;
    std::string text;
    for (const Json& part : content) text += part.at("text").get_ref<const std::string&>();
    return text;
}

}  // namespace smelt
