// What the server says about itself and its models; loading and unloading.
#include "base/nvml.h"
#include "base/process_use.h"
#include "server/routes.h"

namespace smelt {

namespace {

double seconds_since(std::chrono::steady_clock::time_point t) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - t).count();
}

// context_length and input_modalities as OpenRouter's clients read them, max_model_len as vLLM's do; root is
// the model of an alias.
Json openai_model(const ServedModel& m, const std::string& name) {
    Json model = {{"id", name},
                  {"object", "model"},
                  {"created", static_cast<int64_t>(m.load_time)},
                  {"owned_by", "smelt"},
                  {"root", m.name}};
    Json inputs = {"text"};
    if (m.takes_pictures) inputs.push_back("image");
    model["architecture"] = {{"input_modalities", std::move(inputs)}, {"output_modalities", {"text"}}};
    if (const auto loaded = m.loaded()) {
        model["context_length"] = model["max_model_len"] = loaded->chat().engine().limits().max_tokens();
    }
    return model;
}

// As vLLM lists them.
Json adapter_json(const ServedModel& m, const AdapterSpec& adapter) {
    Json json = openai_model(m, adapter.name);
    json["root"] = adapter.path.string();
    json["parent"] = m.name;
    return json;
}

Json openai_models(const ModelSet& models) {
    Json data = Json::array();
    for (const auto& m : models.all()) {
        data.push_back(openai_model(*m, m->name));
        for (const std::string& alias : m->spec.aliases) data.push_back(openai_model(*m, alias));
        for (const AdapterSpec& a : m->adapters()) data.push_back(adapter_json(*m, a));
    }
    return {{"object", "list"}, {"data", std::move(data)}};
}

Json model_details(const ServedModel& m, const char* state) {
    Json details = {{"name", m.name},
                    {"state", state},
                    {"replicas", m.spec.replicas},
                    {"weight_bytes", m.weight_bytes.load()},
                    {"tokens_per_second_alone", m.tokens_per_second.load()},
                    {"takes_pictures", m.takes_pictures.load()},
                    {"loaded", static_cast<int64_t>(m.load_time)}};
    const auto loaded = m.loaded();
    if (loaded == nullptr) return details;
    const ChatModel& chat = loaded->chat();
    details.update({{"architecture", chat.model().config().architecture},
                    {"context", chat.n_ctx()},
                    {"vocabulary", chat.model().config().vocab_size},
                    {"kv_bytes", loaded->kv_bytes()},
                    {"has_chat_template", chat.has_template()},
                    {"device", chat.backend().name()},
                    {"device_description", chat.backend().description()}});
    return details;
}

std::string compiler_name() {
#if defined(__clang__)
    return fmt::format("clang {}.{}", __clang_major__, __clang_minor__);
#else
    return fmt::format("g++ {}.{}", __GNUC__, __GNUC_MINOR__);
#endif
}

Json device_json(const LoadedModel* loaded) {
    if (loaded == nullptr) return {{"device", nullptr}, {"device_description", nullptr}};
    const Backend& backend = loaded->chat().backend();
    return {{"device", backend.name()}, {"device_description", backend.description()}};
}

void gpu_metrics(MetricsText& t) {
    const std::vector<GpuState> gpus = recent_gpus();
    const auto of_gpus = [&](const char* name, const char* help, auto value) {
        if (gpus.empty()) return;
        t.family(name, "gauge", help);
        for (size_t i = 0; i < gpus.size(); ++i) {
            if (const auto v = value(gpus[i]))
                t.value(fmt::format("gpu=\"{}\",name=\"{}\"", i, gpus[i].name), static_cast<double>(*v));
        }
    };
    of_gpus("smelt_gpu_memory_used_bytes", "Memory of the GPU that processes hold.",
            [](const GpuState& g) { return g.memory_used; });
    of_gpus("smelt_gpu_memory_total_bytes", "Memory of the GPU.",
            [](const GpuState& g) { return g.memory_total; });
    of_gpus("smelt_gpu_busy_percent", "Share of the time in which a kernel ran.",
            [](const GpuState& g) { return g.busy_percent; });
    of_gpus("smelt_gpu_temperature_celsius", "Temperature of the chip.",
            [](const GpuState& g) { return g.celsius; });
    of_gpus("smelt_gpu_power_watts", "What the GPU draws.", [](const GpuState& g) { return g.watts; });
}

EngineStats stats_of(const ServedModel& m) {
    const auto loaded = m.loaded();
    return loaded == nullptr ? EngineStats() : loaded->stats();
}

GrammarCacheStats grammar_stats_of(const ServedModel& m) {
    const auto loaded = m.loaded();
    return loaded == nullptr ? GrammarCacheStats() : loaded->chat().grammar_stats();
}

Json model_performance(const ServedModel& m, const char* state, double uptime) {
    const EngineStats s = stats_of(m);
    const auto loaded = m.loaded();
    Json device = device_json(loaded.get());
    device["state"] = state;
    device["failed_steps"] = s.n_failed_steps;
    const ModelMetrics& n = m.metrics;
    const std::lock_guard lock(n.mutex);
    const uint64_t under_way = n.accepted - n.completed - n.failed - n.cancelled;
    return {{"name", m.name},
            {"requests",
             {{"accepted", n.accepted},
              {"completed", n.completed},
              {"failed", n.failed},
              {"cancelled", n.cancelled},
              {"under_way", under_way}}},
            {"tokens",
             {{"prompt", n.prompt_tokens}, {"cached", n.cached_tokens}, {"generated", n.generated_tokens}}},
            {"drafts", {{"tokens", s.n_drafted}, {"accepted", s.n_draft_accepted}}},
            {"tokens_per_second",
             {{"now", s.n_running > 0 ? s.tokens_per_second : 0.0},
              {"mean", uptime > 0 ? static_cast<double>(n.generated_tokens) / uptime : 0.0},
              {"of_one_answer", m.tokens_per_second.load()}}},
            {"time_to_first_token", n.first_token.percentiles()},
            {"inter_token_latency", n.inter_token.percentiles()},
            {"latency", n.whole.percentiles()},
            {"queue",
             {{"waiting", s.n_queued},
              {"running", s.n_running},
              {"preempted", s.n_preempted},
              {"paused", s.n_paused}}},
            {"kv_cache",
             {{"blocks", s.n_blocks},
              {"used", s.n_used_blocks},
              {"cached", s.n_cached_blocks},
              {"use", s.n_blocks > 0 ? static_cast<double>(s.n_used_blocks) / s.n_blocks : 0.0}}},
            {"memory",
             {{"weight_bytes", loaded ? loaded->weight_bytes() : 0},
              {"kv_bytes", loaded ? loaded->kv_bytes() : 0}}},
            {"device", std::move(device)}};
}

}  // namespace

void health(Call& call) {
    const auto models = call.server.models.all();
    Json list = Json::array();
    bool all_well = !models.empty();
    for (const auto& m : models) {
        const std::string_view state = call.server.models.state(*m);
        all_well = all_well && (state == "ok" || state == "idle");
        list.push_back({{"name", m->name}, {"status", state}});
        list.back().update(device_json(m->loaded().get()));
    }
    const char* status = models.empty() ? "no_model" : all_well ? "ok" : "degraded";
    call.exchange->send({.status = all_well ? 200 : 503,
                         .body = to_string(Json{{"status", status},
                                                {"version", call.server.version},
                                                {"uptime_seconds", seconds_since(call.server.started)},
                                                {"models", std::move(list)},
                                                {"gpus", gpus_json(recent_gpus())}})});
}

void list_models(Call& call) {
    call.exchange->send({.body = to_string(openai_models(call.server.models))});
}

void show_model(Call& call) {
    const auto [model, adapter] = call.server.models.find_named(call.name);
    if (model != nullptr && !adapter.empty()) {
        for (const AdapterSpec& a : model->adapters()) {
            if (a.name == adapter) return call.exchange->send({.body = to_string(adapter_json(*model, a))});
        }
    }
    call.exchange->send(
        {.body = to_string(openai_model(*call.server.models.find_or_throw(call.name), call.name))});
}

void list_models_in_detail(Call& call) {
    Json list = Json::array();
    const ModelSet& models = call.server.models;
    for (const auto& m : models.all()) list.push_back(model_details(*m, models.state(*m)));
    Json body = openai_models(models);  // llama.cpp's server has both under this path
    body["models"] = std::move(list);
    call.exchange->send({.body = to_string(body)});
}

void performance(Call& call) {
    const ServerContext& s = call.server;
    const double uptime = seconds_since(s.started);
    Json list = Json::array();
    for (const auto& m : s.models.all()) list.push_back(model_performance(*m, s.models.state(*m), uptime));
    Json body = {{"uptime_seconds", uptime},
                 {"connections", s.n_connections ? s.n_connections() : 0},
                 {"requests",
                  {{"received", s.metrics.received.load()},
                   {"accepted", s.metrics.accepted.load()},
                   {"rejected", s.metrics.rejected.load()}}},
                 {"internal_errors", s.metrics.internal_errors.load()},
                 {"process",
                  {{"cpu_share", uptime > 0 ? read_process_use().cpu_seconds / uptime : 0},
                   {"resident_bytes", read_process_use().resident},
                   {"peak_bytes", read_process_use().peak_resident}}},
                 {"gpus", gpus_json(recent_gpus())},
                 {"models", std::move(list)}};
    call.exchange->send({.body = to_string(body)});
}

void metrics_text(Call& call) {
    const ServerContext& s = call.server;
    const auto models = s.models.all();
    MetricsText t;
    const auto plain = [&](const char* name, const char* type, const char* help, double value) {
        t.family(name, type, help);
        t.value("", value);
    };
    const auto of_models = [&](const char* name, const char* type, const char* help, auto value) {
        t.family(name, type, help);
        for (const auto& m : models) {
            const EngineStats stats = stats_of(*m);
            const std::lock_guard lock(m->metrics.mutex);
            t.value(model_label(m->name), static_cast<double>(value(m->metrics, stats)));
        }
    };
    std::vector<GrammarCacheStats> grammar_stats;  // asked for once: they count what is kept
    for (const auto& m : models) grammar_stats.push_back(grammar_stats_of(*m));
    const auto grammars = [&](const char* name, const char* type, const char* help, auto which) {
        t.family(name, type, help);
        for (size_t i = 0; i < models.size(); ++i)
            t.value(model_label(models[i]->name), static_cast<double>(grammar_stats[i].*which));
    };
    const auto latencies = [&](const char* name, const char* help, Latency ModelMetrics::*which) {
        t.family(name, "histogram", help);
        for (const auto& m : models) {
            const std::lock_guard lock(m->metrics.mutex);
            t.latency(model_label(m->name), m->metrics.*which);
        }
    };
    using M = const ModelMetrics&;
    using S = const EngineStats&;
    plain("smelt_requests_received_total", "counter", "Requests for answers.",
          static_cast<double>(s.metrics.received));
    plain("smelt_requests_rejected_total", "counter", "Of them, refused with 4xx or 503.",
          static_cast<double>(s.metrics.rejected));
    plain("smelt_internal_errors_total", "counter", "Bugs that a client saw as 500.",
          static_cast<double>(s.metrics.internal_errors));
    plain("smelt_connections", "gauge", "Open connections.",
          s.n_connections ? static_cast<double>(s.n_connections()) : 0);
    plain("process_cpu_seconds_total", "counter", "CPU time.", read_process_use().cpu_seconds);
    plain("process_resident_memory_bytes", "gauge", "Resident memory.",
          static_cast<double>(read_process_use().resident));
    plain("process_resident_memory_peak_bytes", "gauge", "The most resident memory so far.",
          static_cast<double>(read_process_use().peak_resident));
    gpu_metrics(t);
    t.family("smelt_build_info", "gauge", "1; the labels say which build this is.");
    t.value(fmt::format("version=\"{}\",compiler=\"{}\"", s.version, compiler_name()), 1);
    of_models("smelt_requests_accepted_total", "counter", "Requests that reached the engine.",
              [](M m, S) { return m.accepted; });
    of_models("smelt_requests_completed_total", "counter", "Accepted requests that were answered.",
              [](M m, S) { return m.completed; });
    of_models("smelt_requests_failed_total", "counter", "Accepted requests that ended with an error.",
              [](M m, S) { return m.failed; });
    of_models("smelt_requests_cancelled_total", "counter", "Accepted requests whose client went away.",
              [](M m, S) { return m.cancelled; });
    of_models("smelt_num_requests_running", "gauge", "Sequences in the running batch.",
              [](M, S e) { return e.n_running; });
    of_models("smelt_num_requests_waiting", "gauge", "Sequences that wait for their first step.",
              [](M, S e) { return e.n_queued; });
    of_models("smelt_num_requests_paused", "gauge", "Sequences whose client does not read.",
              [](M, S e) { return e.n_paused; });
    of_models("smelt_num_preemptions_total", "counter", "Sequences that made room for others.",
              [](M, S e) { return e.n_preemptions; });
    of_models("smelt_kv_cache_usage_perc", "gauge", "Used part of the KV cache; 1 is all.",
              [](M, S e) { return e.n_blocks > 0 ? static_cast<double>(e.n_used_blocks) / e.n_blocks : 0; });
    of_models("smelt_kv_cache_blocks_used", "gauge", "Blocks of the KV cache that sequences hold.",
              [](M, S e) { return e.n_used_blocks; });
    of_models("smelt_prompt_tokens_total", "counter", "Tokens of prompts.",
              [](M m, S) { return m.prompt_tokens; });
    of_models("smelt_prompt_tokens_cached_total", "counter", "Of them, found in the KV cache.",
              [](M m, S) { return m.cached_tokens; });
    of_models("smelt_generation_tokens_total", "counter", "Tokens generated.",
              [](M m, S) { return m.generated_tokens; });
    of_models("smelt_spec_decode_num_drafts_total", "counter", "Steps of answers that had drafted tokens.",
              [](M, S e) { return e.n_drafts; });
    of_models("smelt_spec_decode_num_draft_tokens_total", "counter", "Tokens that were drafted.",
              [](M, S e) { return e.n_drafted; });
    of_models("smelt_spec_decode_num_accepted_tokens_total", "counter",
              "Of them, those that were what was drawn.", [](M, S e) { return e.n_draft_accepted; });
    grammars("smelt_grammar_cache_hits_total", "counter", "Forms of answers that were known.",
             &GrammarCacheStats::n_hits);
    grammars("smelt_grammar_cache_misses_total", "counter", "Forms of answers that had to be compiled.",
             &GrammarCacheStats::n_misses);
    grammars("smelt_grammar_cache_bytes", "gauge", "Memory of the compiled forms that are kept.",
             &GrammarCacheStats::n_bytes);
    t.family("smelt_request_success_total", "counter", "Answers by how they ended.");
    for (const auto& m : models) {
        const std::lock_guard lock(m->metrics.mutex);
        t.value(model_label(m->name) + ",finished_reason=\"stop\"", static_cast<double>(m->metrics.stops));
        t.value(model_label(m->name) + ",finished_reason=\"length\"",
                static_cast<double>(m->metrics.lengths));
    }
    latencies("smelt_request_queue_time_seconds", "From the request to its first step.",
              &ModelMetrics::queued);
    latencies("smelt_time_to_first_token_seconds", "From the request to its first token.",
              &ModelMetrics::first_token);
    latencies("smelt_inter_token_latency_seconds", "Between two tokens of an answer.",
              &ModelMetrics::inter_token);
    latencies("smelt_e2e_request_latency_seconds", "From the request to its end.", &ModelMetrics::whole);
    call.exchange->send({.body = t.take(), .type = "text/plain; version=0.0.4; charset=utf-8"});
}

void load_model_route(Call& call) {
    const std::string name = call.body.at("name"), path = call.body.at("path");
    try {
        const auto model = call.server.models.load(name, path);
        call.exchange->send({.body = to_string(model_details(*model, call.server.models.state(*model)))});
    } catch (const RequestError&) {
        throw;
    } catch (const Error& e) {
        throw bad_request("model_invalid", "path", "{}", e.what());
    }
}

void unload_model_route(Call& call) {
    const std::string name = call.body.at("name");
    ModelSet& models = call.server.models;
    const bool keeps_name = get<bool>(call.body, "keep_name").value_or(false);
    if (!(keeps_name ? models.rest(name) : models.unload(name))) {
        throw RequestError({.status = 404,
                            .code = "model_not_found",
                            .message = fmt::format("no model {} is loaded", name),
                            .param = "name"});
    }
    call.exchange->send({.body = to_string(Json{{"unloaded", name}})});
}

}  // namespace smelt
