// The table, and how a path is found in it.
#include "server/routes.h"

#include "base/log.h"
#include "server/dialects/llama_cpp_request.h"

namespace smelt {

namespace {

using enum Access;

constexpr bool on_io = true, on_worker = false, generates = true, has_binary = true;

const Route table[] = {
    {"POST", "/v1/chat/completions", inference, on_worker, &chat_schema, chat_completions,
     "OpenAI's chat completions, whole or as server-sent events. Thinking goes to reasoning_content.",
     generates},
    {"POST", "/v1/chat/completions/input_tokens", inference, on_worker, &template_schema, chat_count_tokens,
     "How many tokens such a conversation has."},
    {"POST", "/v1/completions", inference, on_worker, &completion_schema, completions,
     "OpenAI's completions: text or token ids go on, without a template.", generates},
    {"POST", "/v1/responses", inference, on_worker, &responses_schema, responses,
     "OpenAI's responses, whole or as its events; store keeps an answer for previous_response_id.",
     generates},
    {"POST", "/v1/responses/input_tokens", inference, on_worker, &responses_schema, responses_count_tokens,
     "How many tokens such an input has."},
    {"GET", "/v1/responses/{id}", inference, on_worker, nullptr, show_response, "An answer that was kept."},
    {"DELETE", "/v1/responses/{id}", inference, on_worker, nullptr, delete_response,
     "Forgets such an answer."},
    {"POST", "/v1/embeddings", inference, on_worker, &embedding_schema, embeddings,
     "OpenAI's embeddings: a normalised vector for each text.", generates},
    {"POST", "/v1/rerank", inference, on_worker, &rerank_schema, rerank,
     "How well each text answers a query, the best first: what the model gives to yes against no.",
     generates},
    {"GET", "/v1/models", inference, on_io, nullptr, list_models, "The models, as OpenAI lists them."},
    {"GET", "/v1/models/{id}", inference, on_io, nullptr, show_model, "One model."},
    {"POST", "/generate", inference, on_worker, &generate_schema, generate,
     "One question, one answer: JSON, or server-sent events with stream.", generates},
    {"POST", "/v1/messages", inference, on_worker, &messages_schema, anthropic_messages,
     "Anthropic's messages, whole or as its events, with tools and thinking.", generates,
     ErrorStyle::anthropic},
    {"POST", "/v1/messages/count_tokens", inference, on_worker, &count_tokens_schema, anthropic_count_tokens,
     "How many tokens such messages have.", false, ErrorStyle::anthropic},
    {"POST", "/api/chat", inference, on_worker, &ollama_chat_schema, ollama_chat,
     "Ollama's chat, whole or a line of JSON at a time, with tools and thinking.", generates,
     ErrorStyle::ollama},
    {"POST", "/api/generate", inference, on_worker, &ollama_generate_schema, ollama_generate,
     "Ollama's question and answer.", generates, ErrorStyle::ollama},
    {"POST", "/api/embed", inference, on_worker, &ollama_embed_schema, ollama_embed, "Ollama's embeddings.",
     generates, ErrorStyle::ollama},
    {"POST", "/api/embeddings", inference, on_worker, &ollama_embeddings_schema, ollama_embeddings,
     "Ollama's older embeddings: one text, one vector.", generates, ErrorStyle::ollama},
    {"POST", "/api/show", inference, on_worker, &ollama_show_schema, ollama_show,
     "A model as Ollama shows it.", false, ErrorStyle::ollama},
    {"GET", "/api/tags", inference, on_io, nullptr, ollama_tags, "The models as Ollama lists them.", false,
     ErrorStyle::ollama},
    {"GET", "/api/ps", inference, on_io, nullptr, ollama_ps, "Those that are loaded.", false,
     ErrorStyle::ollama},
    {"GET", "/api/version", open, on_io, nullptr, ollama_version,
     "The version of Ollama whose interface this is.", false, ErrorStyle::ollama},
    {"POST", "/completion", inference, on_worker, &native_completion_schema, native_completion,
     "llama.cpp's completion: text or token ids go on, without a template, with its fields and its answer.",
     generates, ErrorStyle::llama_cpp},
    {"POST", "/infill", inference, on_worker, &native_infill_schema, native_infill,
     "llama.cpp's fill-in: the text between two texts, by a model that was trained for it.", generates,
     ErrorStyle::llama_cpp},
    {"GET", "/props", inference, on_worker, nullptr, native_props,
     "The defaults and the template of the model, as llama.cpp has them.", false, ErrorStyle::llama_cpp},
    {"GET", "/slots", inference, on_worker, nullptr, native_slots,
     "A slot for each seat of the batch, as llama.cpp has them.", false, ErrorStyle::llama_cpp},
    {"POST", "/v2/models/{model}/infer", inference, on_worker, &kserve_infer_schema, kserve_infer,
     "KServe v2 (Open Inference Protocol): tensors in, tensors out, as JSON or with binary data after it. "
     "Paths below /v2/models/{model} may have /versions/1 after the model.",
     generates, ErrorStyle::kserve, has_binary},
    {"POST", "/v2/models/{model}/generate", inference, on_worker, &kserve_generate_schema, kserve_generate,
     "Triton's generate extension: text_input goes on as text_output.", generates, ErrorStyle::kserve},
    {"POST", "/v2/models/{model}/generate_stream", inference, on_worker, &kserve_generate_schema,
     kserve_generate_stream, "The same as server-sent events.", generates, ErrorStyle::kserve},
    {"GET", "/v2/models/{model}/ready", inference, on_io, nullptr, kserve_model_ready,
     "200 where the model answers requests.", false, ErrorStyle::kserve},
    {"GET", "/v2/models/{model}/config", inference, on_io, nullptr, kserve_model_config,
     "The model's configuration, as Triton has it.", false, ErrorStyle::kserve},
    {"GET", "/v2/models/{model}", inference, on_io, nullptr, kserve_model,
     "The tensors that the model takes and gives.", false, ErrorStyle::kserve},
    {"GET", "/v2/health/live", open, on_io, nullptr, kserve_live, "200 where the server runs.", false,
     ErrorStyle::kserve},
    {"GET", "/v2/health/ready", open, on_io, nullptr, kserve_ready,
     "200 where every model answers requests, else 400.", false, ErrorStyle::kserve},
    {"GET", "/v2", open, on_io, nullptr, kserve_server, "Name and extensions of the server.", false,
     ErrorStyle::kserve},
    {"POST", "/v2/repository/index", inference, on_io, &kserve_index_schema, kserve_index,
     "The models and their states, as Triton lists them.", false, ErrorStyle::kserve},
    {"POST", "/v2/repository/models/{model}/load", admin, on_worker, &kserve_load_schema, kserve_load,
     "Loads a model that rests, or one of a path. Needs the admin key.", false, ErrorStyle::kserve},
    {"POST", "/v2/repository/models/{model}/unload", admin, on_worker, &kserve_unload_schema, kserve_unload,
     "Gives back a model's memory; its next request loads it again. Needs the admin key.", false,
     ErrorStyle::kserve},
    {"GET", "/ws/stream", inference, on_io, nullptr, nullptr,
     "WebSocket. Each message is a GenerateRequest with an id of yours; events start, token, end and error "
     "come "
     "back with it. {\"type\": \"cancel\", \"id\": ...} ends one, {\"type\": \"ping\"} gets a pong."},
    {"GET", "/models", inference, on_io, nullptr, list_models_in_detail,
     "The models with sizes, device and speed."},
    {"GET", "/performance", inference, on_io, nullptr, performance,
     "Live numbers per model: requests, tokens, rates, latency percentiles, queue, KV cache, memory."},
    {"GET", "/metrics", inference, on_io, nullptr, metrics_text, "The same for Prometheus."},
    {"GET", "/health", open, on_io, nullptr, health,
     "200 when requests are answered, else 503; device state."},
    {"POST", "/tokenize", inference, on_worker, &tokenize_schema, tokenize,
     "Text or a conversation to token ids."},
    {"POST", "/detokenize", inference, on_worker, &detokenize_schema, detokenize, "Token ids to text."},
    {"POST", "/apply-template", inference, on_worker, &template_schema, apply_template,
     "A conversation as the model sees it."},
    {"POST", "/admin/load", admin, on_worker, &load_schema, load_model_route,
     "Loads a model. Needs the admin key."},
    {"POST", "/admin/unload", admin, on_worker, &unload_schema, unload_model_route,
     "Unloads a model. Needs the admin key."},
    {"GET", "/lora-adapters", inference, on_worker, nullptr, list_adapters,
     "The adapters of a model with their ids, and the scales that requests get which name none.", false,
     ErrorStyle::llama_cpp},
    {"POST", "/lora-adapters", admin, on_worker, &adapter_scales_schema, set_adapter_scales,
     "Sets these scales. Needs the admin key.", false, ErrorStyle::llama_cpp},
    {"POST", "/v1/load_lora_adapter", admin, on_worker, &load_adapter_schema, load_adapter,
     "vLLM's: loads an adapter, which requests choose as their model. Needs the admin key."},
    {"POST", "/v1/unload_lora_adapter", admin, on_worker, &unload_adapter_schema, unload_adapter,
     "vLLM's: unloads an adapter. Needs the admin key."},
    {"GET", "/chat", open, on_io, nullptr, chat_page, "A page to chat with the models in a browser."},
    {"GET", "/dashboard", open, on_io, nullptr, dashboard_page, "Live charts of /performance."},
    {"GET", "/web/{file}", open, on_io, nullptr, web_file, "What these two pages load."},
    {"GET", "/docs", open, on_io, nullptr, docs_site, "The guides and the reference, with a search."},
    {"GET", "/docs/{file}", open, on_io, nullptr, docs_site_file,
     "Their pages, compressed (curl: --compressed)."},
    {"GET", "/openapi.json", open, on_io, nullptr, openapi, "This interface as an OpenAPI document."},
    {"GET", "/", open, on_io, nullptr, docs_page, "This page."},
};

// Other names of routes: llama.cpp's server has these without /v1, and some under two names.
constexpr std::pair<std::string_view, std::string_view> other_paths[] = {
    {"/completions", "/completion"},
    {"/chat/completions", "/v1/chat/completions"},
    {"/responses", "/v1/responses"},
    {"/chat/completions/input_tokens", "/v1/chat/completions/input_tokens"},
    {"/responses/input_tokens", "/v1/responses/input_tokens"},
    {"/embeddings", "/v1/embeddings"},
    {"/rerank", "/v1/rerank"},
    {"/reranking", "/v1/rerank"},
    {"/v1/reranking", "/v1/rerank"},
    {"/v1/health", "/health"}};

bool is_other_path(std::string_view path) {
    return std::ranges::find(other_paths, path, &std::pair<std::string_view, std::string_view>::first) !=
           std::end(other_paths);
}

// The path that the table has for this one.
std::string main_path(std::string_view path) {
    for (const auto& [other, main] : other_paths) {
        if (path == other) return std::string(main);
    }
    // /v2/models/NAME/versions/1/infer: who asks for a version looks at it in the request's own path.
    constexpr std::string_view models = "/v2/models/", versions = "/versions/";
    const size_t at = path.starts_with(models) ? path.find(versions, models.size()) : path.npos;
    if (at == path.npos) return std::string(path);
    const size_t end = std::min(path.find('/', at + versions.size()), path.size());
    return std::string(path.substr(0, at)) + std::string(path.substr(end));
}

struct Pattern {
    std::string_view before, after;
    bool has_name;
};

Pattern split(std::string_view pattern) {
    const size_t brace = pattern.find('{');
    if (brace == pattern.npos) return {pattern, {}, false};
    return {pattern.substr(0, brace), pattern.substr(pattern.find('}') + 1), true};
}

bool matches(std::string_view pattern, std::string_view path) {
    const Pattern p = split(pattern);
    if (!p.has_name) return p.before == path;
    return path.size() > p.before.size() + p.after.size() && path.starts_with(p.before) &&
           path.ends_with(p.after);
}

// The path of the table that this one belongs to: the first that matches, whatever its method.
std::string_view pattern_of(std::string_view path) {
    const std::string main = main_path(path);
    for (const Route& r : table) {
        if (matches(r.path, main)) return r.path;
    }
    return {};
}

}  // namespace

std::span<const Route> routes() {
    return table;
}

const Route* find_route(std::string_view method, std::string_view path) {
    if (method == "HEAD") method = "GET";
    const std::string_view pattern = pattern_of(path);
    for (const Route& r : table) {
        if (method == r.method && pattern == r.path) return &r;
    }
    // What one method has as a path of its own is a name for another: GET /v1/responses/input_tokens.
    const std::string main = main_path(path);
    for (const Route& r : table) {
        const bool is_one_part = main.find('/', split(r.path).before.size()) == main.npos;
        if (method == r.method && is_one_part && matches(r.path, main)) return &r;
    }
    return nullptr;
}

std::string path_name(const Route& route, std::string_view path) {
    const Pattern p = split(route.path);
    if (!p.has_name) return "";
    const std::string main = main_path(path);
    return main.substr(p.before.size(), main.size() - p.before.size() - p.after.size());
}

std::shared_ptr<AccessRecord> make_record(const ServerContext& server, const std::string& id,
                                          const std::string& method, const std::string& path) {
    return server.access_log ? std::make_shared<AccessRecord>(id, method, path, server.access_log) : nullptr;
}

ErrorStyle error_style(std::string_view path) {
    if (is_other_path(path)) return ErrorStyle::llama_cpp;
    const std::string_view pattern = pattern_of(path);
    for (const Route& r : table) {
        if (pattern == r.path) return r.errors;
    }
    // What is not there was asked for by a client of that dialect all the same.
    if (path.starts_with("/api/")) return ErrorStyle::ollama;
    if (path.starts_with("/v2/")) return ErrorStyle::kserve;
    return path.starts_with("/v1/messages/") ? ErrorStyle::anthropic : ErrorStyle::openai;
}

std::string allowed_methods(std::string_view path) {
    const std::string_view pattern = pattern_of(path);
    std::string methods;
    for (const Route& r : table) {
        if (pattern == r.path) methods += (methods.empty() ? "" : ", ") + std::string(r.method);
    }
    return methods;
}

ApiError current_error(ServerContext& server) {
    try {
        throw;
    } catch (const RequestError& e) {
        return e.error;
    } catch (const std::bad_alloc&) {
        return {
            .status = 503, .code = "insufficient_memory", .message = "too little memory", .retry_after = 1};
    } catch (const std::exception& e) {
        spdlog::error("internal error: {}", e.what());
        ++server.metrics.internal_errors;
        return {.status = 500, .code = "internal_error", .message = "internal error"};
    }
}

void answer_errors(ServerContext& server, Exchange& exchange, bool counts, const std::function<void()>& work,
                   ErrorStyle style) {
    ApiError error;
    try {
        return work();
    } catch (const TakesLong&) {
        throw;
    } catch (...) {
        error = current_error(server);
    }
    if (counts) {
        ++server.metrics.received;
        ++server.metrics.rejected;
    }
    exchange.send(error_answer(error, style));
}

}  // namespace smelt
