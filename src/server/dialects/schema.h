// Request bodies as data: one list of fields per endpoint, from which checking, error texts, the OpenAPI
// document and the documentation page come.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace smelt {

enum class FieldType {
    boolean,
    integer,          // min..max
    number,           // low..high
    string,           // max_length bytes; one of `choices` where there are any
    prompt,           // string, strings, token ids, or arrays of token ids
    stop,             // string or strings
    logit_bias,       // {"token id": bias}
    stream_options,   // {"include_usage": bool}
    template_kwargs,  // object without the names that the server sets itself
    token_ids,        // array of token ids
    priority,         // "speed", "quality", "balanced", or an integer for the queue
    texts,            // as prompt, and more of them
    compound,         // as Field::compound says
    unsupported,      // null, or what `choices` allows; else 400 not_supported
};

// A type with members of its own.
struct CompoundType {
    std::string_view description;                                          // "object {include_usage}"
    void (*check)(const std::string& param, const Json& value) = nullptr;  // null: whoever reads it checks it
    std::string_view openapi = "{}";                                       // JSON text
};

struct Field {
    std::string_view name;
    FieldType type;
    std::string_view doc;
    int64_t min = std::numeric_limits<int64_t>::min(), max = std::numeric_limits<int64_t>::max();
    bool or_minus_one = false;  // an integer that may be -1 as well
    double low = 0, high = 0;
    std::string_view fallback = "";  // JSON text; empty: none
    bool required = false;
    size_t max_length = size_t{1} << 24;
    std::vector<std::string_view> choices = {};
    const CompoundType* compound = nullptr;
};

struct RequestSchema {
    std::string_view name;  // "ChatCompletionRequest"
    std::vector<Field> fields;
    std::string_view example;    // a JSON body that works
    bool may_be_empty = false;   // no body is {}
    std::string_view list = {};  // a body that is an array is the value of this field; empty: it is refused
};

extern const CompoundType any_object;  // accepted, and looked at where it is used

// Throws RequestError naming field, expected and found. Null is the same as absent. An unknown field that
// looks like a slip of a known one is refused; of any other there is a warning in what is returned, or with
// `strict` it is refused as well.
std::vector<std::string> check_body(const Json& body, const RequestSchema& schema, bool strict);

Json openapi_schema(const RequestSchema& schema);
std::string describe_type(const Field& field);  // "integer, 1 to 16", "string or array of strings"

// Limits of the compound types.
inline constexpr size_t max_stops = 16, max_stop_bytes = 256, max_logit_bias = 1024, max_prompts = 256,
                        max_texts = 2048, max_messages = 4096, max_text = size_t{1} << 24;
inline constexpr int64_t max_count = std::numeric_limits<int32_t>::max();

// A field of a checked body; nullopt when absent or null.
template <class T>
std::optional<T> get(const Json& body, const char* name) {
    const auto it = body.find(name);
    if (it == body.end() || it->is_null()) return std::nullopt;
    return it->template get<T>();
}

extern const RequestSchema chat_schema, completion_schema, generate_schema, tokenize_schema,
    detokenize_schema, template_schema, load_schema, unload_schema, load_adapter_schema,
    unload_adapter_schema, adapter_scales_schema, messages_schema, count_tokens_schema, ollama_chat_schema,
    ollama_generate_schema, ollama_show_schema, ollama_embed_schema, ollama_embeddings_schema,
    responses_schema, embedding_schema, rerank_schema, kserve_infer_schema, kserve_generate_schema,
    kserve_index_schema, kserve_load_schema, kserve_unload_schema;

}  // namespace smelt
