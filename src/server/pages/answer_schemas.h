// What a route answers with 200, for the OpenAPI document. A test compares each with a real answer.
#pragma once

#include <string_view>

#include "base/json.h"

namespace smelt {

struct AnswerSchema {
    std::string_view path;
    std::string_view name;    // "ChatCompletion"; empty: text or a page
    std::string_view schema;  // JSON text; empty: as the one with the same name before it
    std::string_view type = "application/json";
    std::string_view stream_type = "";  // with "stream": true; empty: there is no stream
};

// Null: no such route.
const AnswerSchema* find_answer_schema(std::string_view path);
// All of them by name, with those of errors.
Json answer_schemas();

}  // namespace smelt
