// Members that are always there are required. Numbers that only programs of smelt read are summed up as
// objects.
#include "server/pages/answer_schemas.h"

#include <algorithm>
#include <iterator>

namespace smelt {

namespace {

constexpr std::string_view sse = "text/event-stream", lines = "application/x-ndjson";

constexpr AnswerSchema schemas[] = {
    {.path = "/v1/chat/completions",
     .name = "ChatCompletion",
     .schema = R"({"type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage", "timings"], "properties": {
        "id": {"type": "string"}, "object": {"type": "string", "enum": ["chat.completion"]},
        "created": {"type": "integer"}, "model": {"type": "string"}, "system_fingerprint": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object",
            "required": ["index", "message", "finish_reason"], "properties": {
            "index": {"type": "integer"},
            "finish_reason": {"type": "string", "enum": ["stop", "length", "tool_calls", "function_call"]},
            "logprobs": {"type": ["object", "null"]},
            "message": {"type": "object", "required": ["role", "content"], "properties": {
                "role": {"type": "string", "enum": ["assistant"]}, "content": {"type": ["string", "null"]},
                "reasoning_content": {"type": "string"}, "refusal": {"type": ["string", "null"]},
                "tool_calls": {"type": "array", "items": {"$ref": "#/components/schemas/ToolCall"}},
                "function_call": {"type": "object"}}}}}},
        "prompt_logprobs": {"type": "array"},
        "usage": {"$ref": "#/components/schemas/Usage"}, "timings": {"type": "object"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = sse},
    {.path = "/v1/completions",
     .name = "Completion",
     .schema = R"({"type": "object",
        "required": ["id", "object", "created", "model", "choices", "usage", "timings"], "properties": {
        "id": {"type": "string"}, "object": {"type": "string", "enum": ["text_completion"]},
        "created": {"type": "integer"}, "model": {"type": "string"}, "system_fingerprint": {"type": "string"},
        "choices": {"type": "array", "items": {"type": "object", "required": ["index", "text", "finish_reason"],
            "properties": {"index": {"type": "integer"}, "text": {"type": "string"},
            "finish_reason": {"type": "string", "enum": ["stop", "length"]},
            "logprobs": {"type": ["object", "null"], "properties": {
                "tokens": {"type": "array", "items": {"type": "string"}}, "token_logprobs": {"type": "array"},
                "top_logprobs": {"type": "array"},
                "text_offset": {"type": "array", "items": {"type": "integer"}}}},
            "prompt_logprobs": {"type": "array"}}}},
        "usage": {"$ref": "#/components/schemas/Usage"}, "timings": {"type": "object"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = sse},
    {.path = "/v1/responses",
     .name = "Response",
     .schema = R"({"type": "object",
        "required": ["id", "object", "created_at", "status", "model", "output", "usage", "tools"], "properties": {
        "id": {"type": "string"}, "object": {"type": "string", "enum": ["response"]},
        "created_at": {"type": "integer"},
        "status": {"type": "string", "enum": ["completed", "incomplete", "failed", "in_progress"]},
        "model": {"type": "string"}, "tools": {"type": "array"},
        "output": {"type": "array", "items": {"type": "object", "required": ["id", "type", "status"], "properties": {
            "id": {"type": "string"}, "status": {"type": "string"},
            "type": {"type": "string", "enum": ["message", "reasoning", "function_call"]}}}},
        "usage": {"type": "object", "required": ["input_tokens", "output_tokens", "total_tokens"], "properties": {
            "input_tokens": {"type": "integer"}, "output_tokens": {"type": "integer"},
            "total_tokens": {"type": "integer"}}},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = sse},
    {.path = "/v1/responses/{id}", .name = "Response", .schema = ""},
    {.path = "/v1/responses/input_tokens", .name = "TokenCount", .schema = ""},
    {.path = "/v1/chat/completions/input_tokens", .name = "TokenCount", .schema = ""},
    {.path = "/v1/embeddings", .name = "Embeddings", .schema = R"({"type": "object",
        "required": ["object", "data", "model", "usage"], "properties": {
        "object": {"type": "string", "enum": ["list"]}, "model": {"type": "string"},
        "data": {"type": "array", "items": {"type": "object", "required": ["object", "index", "embedding"],
            "properties": {"object": {"type": "string", "enum": ["embedding"]}, "index": {"type": "integer"},
            "embedding": {"type": ["array", "string"]}}}},
        "usage": {"type": "object", "required": ["prompt_tokens", "total_tokens"]},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/v1/models",
     .name = "ModelList",
     .schema = R"({"type": "object", "required": ["object", "data"],
        "properties": {"object": {"type": "string", "enum": ["list"]},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}}}})"},
    {.path = "/v1/models/{id}", .name = "Model", .schema = R"({"type": "object",
        "required": ["id", "object", "created", "owned_by"], "properties": {"id": {"type": "string"},
        "object": {"type": "string", "enum": ["model"]}, "created": {"type": "integer"},
        "owned_by": {"type": "string"}, "context_length": {"type": "integer"},
        "max_model_len": {"type": "integer"}, "architecture": {"type": "object", "properties": {
            "input_modalities": {"type": "array", "items": {"type": "string", "enum": ["text", "image"]}},
            "output_modalities": {"type": "array", "items": {"type": "string"}}}}}})"},
    {.path = "/v1/rerank", .name = "Ranking", .schema = R"({"type": ["object", "array"], "properties": {
        "model": {"type": "string"}, "results": {"type": "array", "items": {"type": "object",
            "required": ["index", "relevance_score"], "properties": {"index": {"type": "integer"},
            "relevance_score": {"type": "number"}, "document": {"type": "object"}}}},
        "usage": {"type": "object"}, "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/completion",
     .name = "LlamaCompletion",
     .schema = R"({"type": ["object", "array"], "properties": {
        "index": {"type": "integer"}, "content": {"type": "string"},
        "tokens": {"type": "array", "items": {"type": "integer"}}, "id_slot": {"type": "integer"},
        "stop": {"type": "boolean"}, "model": {"type": "string"}, "tokens_predicted": {"type": "integer"},
        "tokens_evaluated": {"type": "integer"}, "generation_settings": {"type": "object"},
        "prompt": {"type": "string"}, "has_new_line": {"type": "boolean"}, "truncated": {"type": "boolean"},
        "stop_type": {"type": "string", "enum": ["eos", "limit", "word", "none"]},
        "stopping_word": {"type": "string"}, "tokens_cached": {"type": "integer"}, "timings": {"type": "object"},
        "completion_probabilities": {"type": "array"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = sse},
    {.path = "/infill", .name = "LlamaCompletion", .schema = "", .stream_type = sse},
    {.path = "/props", .name = "LlamaProperties", .schema = R"({"type": "object",
        "required": ["default_generation_settings", "total_slots", "model_path", "chat_template"], "properties": {
        "default_generation_settings": {"type": "object"}, "total_slots": {"type": "integer"},
        "model_alias": {"type": "string"}, "model_path": {"type": "string"}, "chat_template": {"type": "string"},
        "modalities": {"type": "object", "properties": {"vision": {"type": "boolean"}, "audio": {"type": "boolean"}}}}})"},
    {.path = "/slots", .name = "LlamaSlots", .schema = R"({"type": "array", "items": {"type": "object",
        "required": ["id", "n_ctx", "is_processing"], "properties": {"id": {"type": "integer"},
        "n_ctx": {"type": "integer"}, "is_processing": {"type": "boolean"}}}})"},
    {.path = "/generate",
     .name = "Generated",
     .schema = R"({"type": "object",
        "required": ["model", "text", "thinking", "finish_reason", "usage", "timings"], "properties": {
        "model": {"type": "string"}, "text": {"type": "string"}, "thinking": {"type": ["string", "null"]},
        "finish_reason": {"type": "string", "enum": ["stop", "length"]}, "answers": {"type": "array"},
        "usage": {"$ref": "#/components/schemas/Usage"}, "timings": {"type": "object"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = sse},
    {.path = "/v1/messages",
     .name = "AnthropicMessage",
     .schema = R"({"type": "object",
        "required": ["id", "type", "role", "model", "content", "stop_reason", "stop_sequence", "usage"],
        "properties": {"id": {"type": "string"}, "type": {"type": "string", "enum": ["message"]},
        "role": {"type": "string", "enum": ["assistant"]}, "model": {"type": "string"},
        "content": {"type": "array", "items": {"type": "object", "required": ["type"], "properties": {
            "type": {"type": "string", "enum": ["text", "thinking", "tool_use"]}}}},
        "stop_reason": {"type": "string", "enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
        "stop_sequence": {"type": ["string", "null"]},
        "usage": {"type": "object", "required": ["input_tokens", "output_tokens"]},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = sse},
    {.path = "/v1/messages/count_tokens", .name = "TokenCount", .schema = R"({"type": "object",
        "required": ["input_tokens"], "properties": {"input_tokens": {"type": "integer"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/api/chat",
     .name = "OllamaChat",
     .schema = R"({"type": "object",
        "required": ["model", "created_at", "message", "done"], "properties": {"model": {"type": "string"},
        "created_at": {"type": "string"}, "done": {"type": "boolean"}, "done_reason": {"type": "string"},
        "message": {"type": "object", "required": ["role", "content"], "properties": {
            "role": {"type": "string"}, "content": {"type": "string"}, "thinking": {"type": "string"},
            "tool_calls": {"type": "array"}}},
        "prompt_eval_count": {"type": "integer"}, "eval_count": {"type": "integer"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = lines},
    {.path = "/api/generate",
     .name = "OllamaGenerated",
     .schema = R"({"type": "object",
        "required": ["model", "created_at", "response", "done"], "properties": {"model": {"type": "string"},
        "created_at": {"type": "string"}, "response": {"type": "string"}, "thinking": {"type": "string"},
        "done": {"type": "boolean"}, "done_reason": {"type": "string"}, "prompt_eval_count": {"type": "integer"},
        "eval_count": {"type": "integer"}, "warnings": {"$ref": "#/components/schemas/Warnings"}}})",
     .stream_type = lines},
    {.path = "/api/embed", .name = "OllamaEmbeddings", .schema = R"({"type": "object",
        "required": ["model", "embeddings", "prompt_eval_count"], "properties": {"model": {"type": "string"},
        "embeddings": {"type": "array", "items": {"type": "array", "items": {"type": "number"}}},
        "prompt_eval_count": {"type": "integer"}, "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/api/embeddings", .name = "OllamaEmbedding", .schema = R"({"type": "object",
        "required": ["embedding"], "properties": {"embedding": {"type": "array", "items": {"type": "number"}},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/api/show", .name = "OllamaModel", .schema = R"({"type": "object",
        "required": ["details", "model_info", "capabilities", "template"], "properties": {
        "details": {"type": "object"}, "model_info": {"type": "object"}, "template": {"type": "string"},
        "parameters": {"type": "string"}, "capabilities": {"type": "array", "items": {"type": "string"}}}})"},
    {.path = "/api/tags", .name = "OllamaModels", .schema = R"({"type": "object", "required": ["models"],
        "properties": {"models": {"type": "array", "items": {"type": "object",
            "required": ["name", "model", "size", "digest", "details"], "properties": {
            "name": {"type": "string"}, "model": {"type": "string"}, "size": {"type": "integer"},
            "digest": {"type": "string"}, "details": {"type": "object"}}}}}})"},
    {.path = "/api/ps", .name = "OllamaModels", .schema = ""},
    {.path = "/api/version", .name = "OllamaVersion", .schema = R"({"type": "object", "required": ["version"],
        "properties": {"version": {"type": "string"}}})"},
    {.path = "/models",
     .name = "Models",
     .schema = R"({"type": "object", "required": ["models", "object", "data"], "properties": {
        "object": {"type": "string", "enum": ["list"]},
        "data": {"type": "array", "items": {"$ref": "#/components/schemas/Model"}},
        "models": {"type": "array", "items": {"$ref": "#/components/schemas/ModelDetails"}}}})"},
    {.path = "/performance", .name = "Performance", .schema = R"({"type": "object",
        "required": ["uptime_seconds", "connections", "requests", "process", "models"], "properties": {
        "uptime_seconds": {"type": "number"}, "connections": {"type": "integer"}, "requests": {"type": "object"},
        "process": {"type": "object"}, "gpus": {"type": "array", "items": {"type": "object"}},
        "models": {"type": "array", "items": {"type": "object",
            "required": ["name", "requests", "tokens", "queue", "kv_cache", "memory", "device"]}}}})"},
    {.path = "/metrics", .name = "", .schema = "", .type = "text/plain"},
    {.path = "/health", .name = "Health", .schema = R"({"type": "object",
        "required": ["status", "version", "uptime_seconds", "models"], "properties": {
        "status": {"type": "string", "enum": ["ok", "degraded", "no_model"]}, "version": {"type": "string"},
        "uptime_seconds": {"type": "number"}, "models": {"type": "array", "items": {"type": "object",
            "required": ["name", "status", "device"]}}, "gpus": {"type": "array", "items": {"type": "object"}}}})"},
    {.path = "/tokenize",
     .name = "Tokens",
     .schema = R"({"type": "object", "required": ["tokens", "count", "model"],
        "properties": {"tokens": {"type": "array", "items": {"type": ["integer", "object"]}},
        "count": {"type": "integer"}, "model": {"type": "string"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/detokenize", .name = "Text", .schema = R"({"type": "object", "required": ["content", "model"],
        "properties": {"content": {"type": "string"}, "model": {"type": "string"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/apply-template", .name = "Prompt", .schema = R"({"type": "object",
        "required": ["prompt", "n_tokens", "model"], "properties": {"prompt": {"type": "string"},
        "n_tokens": {"type": "integer"}, "model": {"type": "string"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/v2/models/{model}/infer",
     .name = "KserveInferred",
     .schema = R"({"type": "object",
        "required": ["model_name", "model_version", "outputs"], "properties": {"id": {"type": "string"},
        "model_name": {"type": "string"}, "model_version": {"type": "string"}, "parameters": {"type": "object"},
        "outputs": {"$ref": "#/components/schemas/KserveTensors"}}})",
     .stream_type = "application/octet-stream"},
    {.path = "/v2/models/{model}/generate", .name = "KserveGenerated", .schema = R"({"type": "object",
        "required": ["model_name", "model_version", "text_output", "finish_reason"], "properties": {
        "id": {"type": "string"}, "model_name": {"type": "string"}, "model_version": {"type": "string"},
        "text_output": {"type": "string"}, "finish_reason": {"type": "string"},
        "num_input_tokens": {"type": "integer"}, "num_output_tokens": {"type": "integer"},
        "warnings": {"$ref": "#/components/schemas/Warnings"}}})"},
    {.path = "/v2/models/{model}/generate_stream", .name = "", .schema = "", .type = sse},
    {.path = "/v2/models/{model}/ready", .name = "KserveModelReady", .schema = R"({"type": "object",
        "required": ["name", "ready"], "properties": {"name": {"type": "string"}, "ready": {"type": "boolean"}}})"},
    {.path = "/v2/models/{model}/config", .name = "KserveConfig", .schema = R"({"type": "object",
        "required": ["name", "backend", "max_batch_size", "input", "output"], "properties": {
        "name": {"type": "string"}, "backend": {"type": "string"}, "max_batch_size": {"type": "integer"},
        "input": {"type": "array"}, "output": {"type": "array"}}})"},
    {.path = "/v2/models/{model}", .name = "KserveModel", .schema = R"({"type": "object",
        "required": ["name", "versions", "platform", "inputs", "outputs"], "properties": {
        "name": {"type": "string"}, "versions": {"type": "array", "items": {"type": "string"}},
        "platform": {"type": "string"}, "inputs": {"$ref": "#/components/schemas/KserveTensors"},
        "outputs": {"$ref": "#/components/schemas/KserveTensors"}}})"},
    {.path = "/v2/health/live", .name = "KserveLive", .schema = R"({"type": "object", "required": ["live"],
        "properties": {"live": {"type": "boolean"}}})"},
    {.path = "/v2/health/ready", .name = "KserveReady", .schema = R"({"type": "object", "required": ["ready"],
        "properties": {"ready": {"type": "boolean"}}})"},
    {.path = "/v2", .name = "KserveServer", .schema = R"({"type": "object",
        "required": ["name", "version", "extensions"], "properties": {"name": {"type": "string"},
        "version": {"type": "string"}, "extensions": {"type": "array", "items": {"type": "string"}}}})"},
    {.path = "/v2/repository/index", .name = "KserveIndex", .schema = R"({"type": "array", "items": {
        "type": "object", "required": ["name", "version", "state", "reason"], "properties": {
        "name": {"type": "string"}, "version": {"type": "string"}, "reason": {"type": "string"},
        "state": {"type": "string", "enum": ["READY", "UNAVAILABLE"]}}}})"},
    {.path = "/v2/repository/models/{model}/load", .name = "KserveDone", .schema = R"({"type": "object"})"},
    {.path = "/v2/repository/models/{model}/unload", .name = "KserveDone", .schema = ""},
    {.path = "/admin/load", .name = "ModelDetails", .schema = R"({"type": "object",
        "required": ["name", "state", "replicas", "weight_bytes"], "properties": {"name": {"type": "string"},
        "state": {"type": "string", "enum": ["ok", "idle", "failed", "hung"]}, "replicas": {"type": "integer"},
        "weight_bytes": {"type": "integer"}, "takes_pictures": {"type": "boolean"}, "context": {"type": "integer"},
        "device": {"type": "string"}}})"},
    {.path = "/admin/unload", .name = "Unloaded", .schema = R"({"type": "object", "required": ["unloaded"],
        "properties": {"unloaded": {"type": "string"}}})"},
    {.path = "/lora-adapters", .name = "LoraAdapters", .schema = R"({"type": ["array", "object"],
        "properties": {"success": {"type": "boolean"}}})"},
    {.path = "/v1/load_lora_adapter", .name = "", .schema = "", .type = "text/plain"},
    {.path = "/v1/unload_lora_adapter", .name = "", .schema = "", .type = "text/plain"},
    {.path = "/chat", .name = "", .schema = "", .type = "text/html"},
    {.path = "/dashboard", .name = "", .schema = "", .type = "text/html"},
    {.path = "/web/{file}", .name = "", .schema = "", .type = "*/*"},
    {.path = "/docs", .name = "", .schema = "", .type = "text/html"},
    {.path = "/docs/{file}", .name = "", .schema = "", .type = "*/*"},
    {.path = "/openapi.json", .name = "OpenApi", .schema = R"({"type": "object",
        "required": ["openapi", "info", "paths", "components"]})"},
    {.path = "/", .name = "", .schema = "", .type = "text/html"},
};

// What several of them have.
constexpr std::string_view parts = R"({
    "Warnings": {"type": "array", "items": {"type": "string"},
        "description": "What was asked for and left out; absent where nothing was."},
    "ToolCall": {"type": "object", "required": ["id", "type", "function"], "properties": {
        "id": {"type": "string"}, "type": {"type": "string", "enum": ["function"]},
        "function": {"type": "object", "required": ["name", "arguments"], "properties": {
            "name": {"type": "string"}, "arguments": {"type": "string"}}}}},
    "Usage": {"type": "object", "required": ["prompt_tokens", "completion_tokens", "total_tokens"], "properties": {
        "prompt_tokens": {"type": "integer"}, "completion_tokens": {"type": "integer"},
        "total_tokens": {"type": "integer"},
        "prompt_tokens_details": {"type": "object", "properties": {"cached_tokens": {"type": "integer"}}},
        "completion_tokens_details": {"type": "object", "properties": {"reasoning_tokens": {"type": "integer"},
            "accepted_prediction_tokens": {"type": "integer"}, "rejected_prediction_tokens": {"type": "integer"}}}}},
    "Error": {"type": "object", "required": ["error"], "properties": {"error": {"type": "object",
        "required": ["message", "type", "param", "code"], "properties": {"message": {"type": "string"},
        "type": {"type": "string"}, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}}}},
    "AnthropicError": {"type": "object", "required": ["type", "error"], "properties": {
        "type": {"type": "string", "enum": ["error"]}, "error": {"type": "object",
        "required": ["type", "message"], "properties": {"type": {"type": "string"}, "message": {"type": "string"},
        "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}}}}},
    "OllamaError": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "KserveError": {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}},
    "KserveTensors": {"type": "array", "items": {"type": "object", "required": ["name", "datatype", "shape"],
        "properties": {"name": {"type": "string"}, "datatype": {"type": "string"},
        "shape": {"type": "array", "items": {"type": "integer"}}, "data": {"type": "array"},
        "parameters": {"type": "object"}}}},
    "LlamaError": {"type": "object", "required": ["error"], "properties": {"error": {"type": "object",
        "required": ["code", "message", "type"], "properties": {"code": {"type": "integer"},
        "message": {"type": "string"}, "type": {"type": "string"}, "param": {"type": ["string", "null"]},
        "n_prompt_tokens": {"type": "integer"}, "n_ctx": {"type": "integer"}}}}}})";

}  // namespace

const AnswerSchema* find_answer_schema(std::string_view path) {
    const auto it = std::ranges::find(schemas, path, &AnswerSchema::path);
    return it == std::end(schemas) ? nullptr : &*it;
}

Json answer_schemas() {
    Json all = Json::parse(parts);
    for (const AnswerSchema& a : schemas) {
        if (!a.schema.empty()) all[std::string(a.name)] = Json::parse(a.schema);
    }
    return all;
}

}  // namespace smelt
