// smelt serve: models behind HTTP and WebSocket, until it is told to end.
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "apps/device_options.h"
#include "apps/draft_options.h"
#include "apps/grpc_library.h"
#include "apps/hub_model.h"
#include "apps/kv_option.h"
#include "apps/model_text_options.h"
#include "apps/serve_config.h"
#include "apps/serve_keys.h"
#include "apps/serve_names.h"
#include "apps/service_manager.h"
#include "apps/start_lines.h"
#include "apps/trace_file.h"
#include "apps/values.h"
#include "apps/verbs.h"
#include "apps/version.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory_reserve.h"
#include "base/truncation.h"
#include "files/hub/fetch_url.h"
#include "server/api_server.h"

namespace smelt {

namespace {

struct Options {
    std::vector<std::string> models, names;
    DeviceOptions device;
    HttpOptions http;
    AccessOptions access;
    ModelSet::Options set;
    std::string config, api_key_file, admin_key_file, prefix_dir;
    std::string access_log = "text", access_log_file;
    std::string response_dir;
    size_t response_store_mb = 64;
    int image_max_tokens = 0;
    bool allow_image_urls = false, allow_private_image_urls = false;
    int n_ctx = 0, max_seqs = 32, max_queue = 256;
    int64_t kv_tokens = 16384;
    KvFormats kv = {};
    std::vector<std::string> lora;
    int max_adapters = 8, max_adapter_rank = 16;
    bool lora_off = false;
    DraftFlags drafts = {};
    SamplingChanges sampling;
    TemplateOptions chat;
    std::string system, pooling;
    int64_t seed = -1;
    int max_tokens = -1;
    double memory_budget_gb = 0;
    int header_timeout = 10, body_timeout = 30, idle_timeout = 60, write_timeout = 30, drain = 30;
    size_t max_body_mb = 16, request_memory_mb = 256;
    bool insecure = false, strict = false, shared_prefix_cache = false;
    int grpc_port = -1;
};

std::optional<uint64_t> seed_of(const Options& o) {
    if (o.seed < 0) return std::nullopt;
    return static_cast<uint64_t>(o.seed);
}

std::optional<Pooling> pooling_of(const std::string& name) {
    if (name.empty()) return std::nullopt;
    return name == "last" ? Pooling::last : Pooling::mean;
}

ChatModelOptions::FetchPicture fetch_picture(const Options& o) {
    if (!o.allow_image_urls && !o.allow_private_image_urls) return {};
    const FetchRules rules{.private_addresses = o.allow_private_image_urls};
    return [rules](const std::string& url, auto deadline) { return fetch_url(url, rules, deadline); };
}

std::filesystem::path draft_path(const Options& o, const ConfigModel& m) {
    const std::string name = m.draft_model.value_or(o.drafts.model);
    return name.empty() ? std::filesystem::path() : std::filesystem::path(local_model(name));
}

std::vector<AdapterSpec> adapters_of(const Options& o, const ConfigModel& m) {
    std::vector<AdapterSpec> specs = parse_adapters(m.lora);
    for (AdapterSpec& spec : specs) spec.is_usual = spec.is_usual && !o.lora_off;
    if (static_cast<int>(specs.size()) > o.max_adapters)
        throw Error("--max-loras: expected {} or more for the adapters of {}, found {}", specs.size(), m.name,
                    o.max_adapters);
    return specs;
}

ChatModelOptions open_options(const Options& o, const ConfigModel& m) {
    const int max_seqs = m.max_seqs.value_or(o.max_seqs);
    ChatModelOptions open{.device = m.device.value_or(o.device.name()),
                          .backend = o.device.backend(),
                          .mmproj = o.device.mmproj,
                          .rope_scaling = o.device.rope_scaling,
                          .n_ctx = m.context.value_or(o.n_ctx),
                          .kv_tokens = m.kv_tokens.value_or(o.kv_tokens),
                          .image_max_tokens = o.image_max_tokens,
                          .kv = o.kv,
                          .engine = {.scheduler = {.max_seqs = max_seqs},
                                     .max_queue = o.max_queue,
                                     .drafts = o.drafts.options()},
                          .draft_model = draft_path(o, m),
                          .max_adapters = o.max_adapters,
                          .max_adapter_rank = o.max_adapter_rank,
                          .adapters = adapters_of(o, m),
                          .chat_template = m.chat.source.empty() ? o.chat.source : m.chat.source,
                          .sampling = o.sampling,
                          .pooling = pooling_of(m.pooling.empty() ? o.pooling : m.pooling),
                          .system = m.system.value_or(o.system),
                          .template_kwargs = m.chat.kwargs.is_object() ? m.chat.kwargs : o.chat.kwargs,
                          .fetch_picture = fetch_picture(o)};
    open.sampling.update(m.sampling);
    open.backend.n_threads = m.threads.value_or(o.device.n_threads);
    open.engine.scheduler.max_batch_tokens = std::max(512, 2 * max_seqs);
    return open;
}

std::string url_host(const std::string& host) {
    return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

// Names of models hold what a file's may not.
std::string file_name(const std::string& name) {
    std::string result;
    for (const char c : name) {
        const bool plain = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
        result += plain ? std::string(1, c) : fmt::format("%{:02x}", static_cast<unsigned char>(c));
    }
    return result;
}

CacheSalts make_prefix_dir(const std::string& path) {
    if (path.empty()) return {};
    // For its owner alone: in it is what people wrote.
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        throw Error("--prefix-cache-dir: {}: {}", path, std::strerror(errno));
    }
    return CacheSalts(std::filesystem::path(path) / "salt-secret");
}

ModelSpec make_spec(Options& o, const ConfigModel& m) {
    ModelSpec spec{.name = m.name,
                   .aliases = m.aliases,
                   .path = local_model(m.path),
                   .open = open_options(o, m),
                   .replicas = m.replicas,
                   .idle_unload = std::chrono::seconds(m.idle_unload),
                   .best = m.role == "best",
                   .fast = m.role == "fast"};
    if (!o.prefix_dir.empty()) {
        spec.open.engine.prefixes = {std::filesystem::path(o.prefix_dir) / file_name(m.name), version()};
    }
    read_keys(m.api_key_file, spec.keys);
    // Whoever may use a model may ask the server at all.
    for (const std::string& key : spec.keys) o.access.api_keys.push_back(key);
    return spec;
}

std::function<void(const AccessRecord&)> access_log_of(const Options& o) {
    if (o.access_log == "off") return {};
    const bool is_json = o.access_log == "json";
    if (o.access_log_file.empty() && !is_json) {
        return [](const AccessRecord& r) {
            spdlog::log(r.is_routine() ? spdlog::level::debug : spdlog::level::info, "{}", r.text());
        };
    }
    std::FILE* file = o.access_log_file.empty() ? stderr : std::fopen(o.access_log_file.c_str(), "a");
    if (file == nullptr) throw Error("--access-log-file: {}: {}", o.access_log_file, std::strerror(errno));
    return [is_json, file](const AccessRecord& r) {
        const std::string line = is_json ? to_string(r.json()) : printable(r.text(), Lines::one);
        std::fputs((line + "\n").c_str(), file);  // one call, so that lines stay whole
        std::fflush(file);
    };
}

// The smallest of the idle times says how often it is worth looking.
void watch_idle_models(HttpServer& http, ModelSet& models, const std::vector<ModelSpec>& specs) {
    std::chrono::milliseconds period{0};
    for (const ModelSpec& s : specs) {
        const std::chrono::milliseconds idle = s.idle_unload;
        if (idle.count() > 0 && (period.count() == 0 || idle < period)) period = idle;
    }
    if (period.count() > 0)
        http.every(std::max(period / 4, std::chrono::milliseconds(200)), [&] { models.unload_idle(); });
}

// A server that hangs says nothing, and the service manager starts it again.
void feed_watchdog(HttpServer& http, const ModelSet& models) {
    const auto period = std::chrono::duration_cast<std::chrono::milliseconds>(watchdog_period());
    if (period.count() == 0) return;
    http.every(std::max(period / 3, std::chrono::milliseconds(1)), [&] {
        for (const auto& m : models.all()) {
            if (models.state(*m) == std::string_view("hung")) return;
        }
        notify_service_manager("WATCHDOG=1");
    });
}

// KServe v2 over gRPC, at a port of its own. Ends before what it asks.
std::unique_ptr<GrpcServer> serve_grpc(const Options& o, KserveHost& host) {
    if (o.grpc_port < 0) return nullptr;
    const auto text = [](const std::string& path) {
        return path.empty() ? std::string() : std::string(MappedFile(path).text());
    };
    auto server = start_grpc(host, {.host = o.http.host,
                                    .port = o.grpc_port,
                                    .certificate = text(o.http.tls.certificate),
                                    .key = text(o.http.tls.key),
                                    .max_body_bytes = o.http.limits.max_body_bytes});
    spdlog::info("gRPC at {}:{}", url_host(o.http.host), server->port());
    return server;
}

void run(Options& o, CLI::App& verb) {
    using std::chrono::seconds;
    std::vector<ConfigModel> configured;
    if (!o.config.empty()) configured = read_serve_config(o.config, verb);
    std::vector<ConfigModel> wanted = name_models(o.models, o.names, std::move(configured));
    if (!o.lora.empty()) {
        if (wanted.size() != 1)
            throw CLI::ValidationError("--lora", "goes with one model; several have lora in their [[model]]");
        wanted.front().lora.insert(wanted.front().lora.end(), o.lora.begin(), o.lora.end());
    }
    if (wanted.empty()) throw CLI::ValidationError("serve", "give a MODEL, or --config with a [[model]]");
    check_given_keys(verb, o.access.api_keys);
    read_keys(o.api_key_file, o.access.api_keys);
    read_keys(o.admin_key_file, o.access.admin_keys);
    std::vector<ModelSpec> specs;
    for (const ConfigModel& m : wanted) specs.push_back(make_spec(o, m));
    check_admin_keys(o.access);
    if (!is_loopback(o.http.host) && o.access.api_keys.empty() && !o.insecure) {
        throw Error("--host {} is open to others: expected --api-key-file or SMELT_API_KEY, or --insecure",
                    o.http.host);
    }
    HttpLimits& limits = o.http.limits;
    limits.max_body_bytes = o.max_body_mb << 20;
    limits.max_memory_bytes = o.request_memory_mb << 20;
    // A client may have half of it, and a body becomes values before it is done with.
    if (o.max_body_mb > o.request_memory_mb / 4) {
        throw Error("--max-body: expected at most a quarter of --request-memory ({} MiB), found {} MiB",
                    o.request_memory_mb, o.max_body_mb);
    }
    limits.header_timeout = seconds(o.header_timeout);
    limits.body_timeout = seconds(o.body_timeout);
    limits.idle_timeout = seconds(o.idle_timeout);
    limits.write_timeout = seconds(o.write_timeout);
    limits.drain_timeout = seconds(o.drain);
    o.set.memory_budget = static_cast<size_t>(o.memory_budget_gb * 1e9);
    o.set.open = open_options(o, {});
    o.set.open.draft_model.clear();  // theirs may be another vocabulary
    o.set.max_waiting = o.http.n_workers - 1;

    const CacheSalts salts = make_prefix_dir(o.prefix_dir);
    guard_mapped_files();
    hold_memory_reserve();
    log_machine();
    // Before the models: a port in use is known at once. It outlives them, because their engines post to it.
    HttpServer http(o.http);
    ModelSet models(o.set);
    for (const ModelSpec& spec : specs) {
        const auto loaded = models.load(spec)->loaded();
        if (&spec == &specs.front()) log_device(spec.open.device, loaded->chat().backend());
        log_model(spec.name, loaded->chat(), loaded->n_replicas());
    }
    const char* scheme = o.http.tls.certificate.empty() ? "http" : "https";
    ServerContext context{.models = models,
                          .access = o.access,
                          .shared_prefix_cache = o.shared_prefix_cache,
                          .salts = salts,
                          .strict = o.strict,
                          .seed = seed_of(o),
                          .max_tokens = o.max_tokens,
                          .version = version(),
                          .address = fmt::format("{}://{}:{}", scheme, url_host(o.http.host), http.port()),
                          .n_connections = [&http] { return http.n_connections(); },
                          .responses = std::make_shared<ResponseStore>(ResponseStore::Options{
                              .max_bytes = o.response_store_mb << 20, .folder = o.response_dir}),
                          .access_log = access_log_of(o)};
    ApiServer server(context);
    const auto grpc_host = make_kserve_host(
        server, context, [&http](std::function<void()> work) { http.post(std::move(work)); });
    const auto grpc = serve_grpc(o, *grpc_host);
    // The one line on stdout, for programs that start a server on a free port.
    fmt::print("{}\n", context.address);
    std::fflush(stdout);
    watch_idle_models(http, models, specs);
    feed_watchdog(http, models);
    notify_service_manager("READY=1");
    spdlog::info("serving at {}; chat at {}/chat, charts at {}/dashboard, documentation at {}/; Ctrl-C ends",
                 context.address, context.address, context.address, context.address);
    const int code = http.run(server);
    if (grpc != nullptr) grpc->stop();
    notify_service_manager("STOPPING=1");
    if (code == 0) return;
    // The second signal: a step under way, which may hang with its device, is not waited for.
    spdlog::default_logger()->flush();
    std::_Exit(code);
}

}  // namespace

Verb add_serve(CLI::App& smelt) {
    auto o = std::make_shared<Options>();
    CLI::App* verb =
        smelt.add_subcommand("serve", "Serve models over HTTP and WebSocket: OpenAI's API and others");
    const auto group = [verb](const char* name) { verb->option_defaults()->group(name); };
    group("Models");
    verb->add_option("-m,--model,models", o->models,
                     "Models: PATH or NAME=PATH, or an id of the Hugging Face hub for PATH; requests choose "
                     "one by name, or auto");
    verb->add_option("--name", o->names,
                     "Names of the models in requests, in the order of the command line; NAME,ALIAS gives "
                     "one several; may be repeated")
        ->allow_extra_args(false);
    verb->add_option(
            "--config", o->config,
            "TOML file with these options in [server] and a [[model]] each; docs/SERVER.md has an example")
        ->type_name("FILE");
    verb->add_flag(
        "--any-model-name", o->set.any_name,
        "Answer requests for unknown models too, with the only model or the one that auto chooses");
    verb->add_option(
            "--lora,--lora-scaled,--lora-modules", o->lora,
            "LoRA adapter, NAME=PATH, that requests choose as their model; PATH alone is added to every "
            "answer whose request names none; :SCALE may follow; may be repeated")
        ->type_name("ADAPTER")
        ->allow_extra_args(false);
    verb->add_flag("--lora-init-without-apply", o->lora_off,
                   "No adapter is added where a request names none");
    verb->add_option("--max-loras", o->max_adapters, "Most adapters of a model that are loaded at once")
        ->check(in_range(0, 64))
        ->capture_default_str();
    verb->add_option("--max-lora-rank", o->max_adapter_rank,
                     "Highest rank of adapters; all take as much memory and time as one of it")
        ->check(in_range(1, 4096))
        ->capture_default_str();
    group("Where a request says nothing");
    verb->add_option("--system", o->system, "System message for conversations without one");
    add_template_options(*verb, o->chat);
    verb->add_option("--pooling", o->pooling,
                     "How token vectors become one embedding; default: as the model says")
        ->check(CLI::IsMember({"mean", "last"}));
    verb->add_option("-s,--seed", o->seed, "Same seed, same answer; -1: another each time")
        ->check(in_range(int64_t{-1}, std::numeric_limits<int64_t>::max()))
        ->capture_default_str();
    verb->add_option("-n,--max-tokens", o->max_tokens,
                     "Most tokens in an answer; -1: until the context is full")
        ->check(in_range(-1, std::numeric_limits<int>::max()))
        ->capture_default_str();
    add_sampling_options(*verb, o->sampling);
    group("Address");
    verb->add_option("--host", o->http.host, "Address to listen on; others than loopback need a key")
        ->capture_default_str();
    verb->add_option("--port", o->http.port, "Port; 0: a free one, printed on stdout")
        ->check(in_range(0, 65535))
        ->capture_default_str();
    verb->add_option("--grpc-port", o->grpc_port,
                     "Port of KServe v2 over gRPC, which needs libsmelt_grpc.so; 0: a free one; -1: none")
        ->check(in_range(-1, 65535))
        ->capture_default_str();
    group("Who may use it");
    verb->add_option("--api-key", o->access.api_keys, "A key that requests must carry; may be repeated")
        ->allow_extra_args(false)
        ->envname("SMELT_API_KEY");
    // An empty name is an unset variable of a script: without it the server would be open, or plain HTTP.
    const auto file = [&](const char* name, std::string& value, const char* what) {
        verb->add_option(name, value, what)->type_name("FILE")->check(named_file());
    };
    file("--api-key-file", o->api_key_file, "File with one key a line");
    file("--admin-key-file", o->admin_key_file,
         "File with the keys of /admin routes; without it they are off");
    group("Address");
    file("--tls-cert", o->http.tls.certificate, "Certificate chain (PEM): serve HTTPS");
    file("--tls-key", o->http.tls.key, "Private key (PEM) of the certificate");
    group("Who may use it");
    verb->add_option("--allowed-hosts", o->access.allowed_hosts,
                     "Host names that requests may use besides addresses and localhost");
    verb->add_option("--cors-origins", o->access.cors_origins,
                     "Origins of web pages that may use the server; localhost: all of this machine; *: all");
    verb->add_flag("--insecure", o->insecure, "Listen beyond loopback without a key");
    verb->add_flag(
        "--allow-image-urls", o->allow_image_urls,
        "Pictures may be http and https addresses, which are fetched: 20 MiB and 3 redirects at most, "
        "20 seconds a request, no private addresses");
    verb->add_flag("--allow-private-image-urls", o->allow_private_image_urls,
                   "The same, from loopback, private and link-local addresses too");
    group("Requests");
    verb->add_flag("--strict", o->strict,
                   "Refuse every unknown field; otherwise only likely misspellings are refused, and the rest "
                   "listed in warnings");
    verb->add_option("--response-store", o->response_store_mb,
                     "MiB for answers of /v1/responses that requests ask to keep; 0: keep none")
        ->check(in_range(0, 1 << 20))
        ->capture_default_str();
    verb->add_option("--response-dir", o->response_dir,
                     "Folder that keeps them across restarts, at most as many MiB again")
        ->type_name("DIR");
    group("Memory and speed");
    verb->add_flag("--shared-prefix-cache", o->shared_prefix_cache,
                   "Share cached prefixes among API keys; otherwise each key has its own");
    verb->add_option("--prefix-cache-dir", o->prefix_dir,
                     "Folder that keeps cached prefixes across restarts; created if missing")
        ->type_name("DIR");
    verb->add_option("-c,--ctx", o->n_ctx, "Context in tokens; 0: as trained, or what fits into memory")
        ->check(in_range(0, 1 << 30))
        ->capture_default_str();
    add_mmproj_option(*verb, o->device);
    verb->add_option(
            "--image-max-tokens", o->image_max_tokens,
            "Most tokens of a picture; larger pictures are scaled down. 0: half the context, at most 1024")
        ->check(in_range(0, 1 << 20))
        ->capture_default_str();
    verb->add_option(
            "--kv-tokens", o->kv_tokens,
            "Tokens in each model's KV cache, for all its conversations together; at least the context")
        ->check(in_range(0, 1 << 30))
        ->capture_default_str();
    add_kv_option(*verb, o->kv);
    verb->add_option("--max-seqs", o->max_seqs, "Most sequences in a batch")
        ->check(in_range(1, 1024))
        ->capture_default_str();
    verb->add_option("--max-queue", o->max_queue, "Most requests that wait; further ones get 503")
        ->check(in_range(1, 1 << 20))
        ->capture_default_str();
    group("Models");
    verb->add_option("--best", o->set.best, "Model for priority quality; default: the one with most weights");
    verb->add_option("--long-answer", o->set.long_answer,
                     "Tokens beyond which auto takes the most efficient model")
        ->check(in_range(0, 1 << 30))
        ->capture_default_str();
    group("Memory and speed");
    verb->add_option("--memory-budget", o->memory_budget_gb,
                     "Most GB for weights and KV caches; 0: what the machine has")
        ->check(in_range(0.0, 1e6))
        ->capture_default_str();
    verb->add_option("--request-memory", o->request_memory_mb,
                     "Most MiB that requests and answers may hold together; one client may hold half")
        ->check(in_range(1, 1 << 20))
        ->capture_default_str();
    group("Limits");
    verb->add_option("--max-body", o->max_body_mb, "Most MiB in a request body")
        ->check(in_range(1, 1024))
        ->capture_default_str();
    verb->add_option("--max-connections", o->http.limits.max_connections, "Most connections at once")
        ->check(in_range(1, 1 << 20))
        ->capture_default_str();
    const auto timeout = [&](const char* name, int& value, const char* what) {
        verb->add_option(name, value, what)->check(in_range(1, 86400))->capture_default_str();
    };
    timeout("--header-timeout", o->header_timeout, "Seconds for a request's headers to arrive");
    timeout("--body-timeout", o->body_timeout, "Seconds for a request's body to arrive");
    timeout("--idle-timeout", o->idle_timeout, "Seconds a connection may be idle");
    timeout("--write-timeout", o->write_timeout, "Seconds a client may leave its answer unread");
    verb->add_option("--step-timeout", o->set.step_timeout,
                     "Seconds a step of the engine may take; after twice that it counts as hung")
        ->check(in_range(0.001, 86400.0))
        ->capture_default_str();
    timeout("--drain", o->drain, "Seconds to finish running requests after SIGTERM");
    group("Logs");
    verb->add_option("--access-log", o->access_log,
                     "One line for each request: model and why it was chosen, tokens, times; never its text")
        ->check(CLI::IsMember({"text", "json", "off"}))
        ->capture_default_str();
    verb->add_option("--access-log-file", o->access_log_file, "Write these lines to FILE instead of stderr")
        ->type_name("FILE")
        ->check(named_file());
    group("Memory and speed");
    add_model_options(*verb, o->device);
    group("Drafts");
    add_draft_options(*verb, o->drafts);
    verb->footer(
        "Examples:\n  smelt serve models/demo-23m\n"
        "  smelt serve small=models/demo-5m large=models/demo-23m --port 0\n"
        "  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", "
        "\"content\": "
        "\"What is 12 + 30?\"}]}'");
    return {verb, [o, verb] { run_traced(o->device, [&] { run(*o, *verb); }); }};
}

}  // namespace smelt
