// smelt serve: models behind HTTP and WebSocket, until it is told to end.
#include <fmt/core.h>

#include <algorithm>
#include <cctype>

#include "apps/device_options.h"
#include "apps/kv_option.h"
#include "apps/verbs.h"
#include "apps/version.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "server/api_server.h"

namespace smelt {

namespace {

struct Options {
    std::vector<std::string> models;
    DeviceOptions device;
    HttpOptions http;
    AccessOptions access;
    ModelSet::Options set;
    std::string api_key_file, admin_key_file;
    int n_ctx = 0, max_seqs = 32, max_queue = 256;
    int64_t kv_tokens = 16384;
    KvFormats kv = {};
    double memory_budget_gb = 0;
    int header_timeout = 10, body_timeout = 30, idle_timeout = 60, write_timeout = 30, drain = 30;
    size_t max_body_mb = 16;
    bool insecure = false, strict = false;
};

// "small=models/demo-5m", or a path whose last part is the name.
std::pair<std::string, std::string> split_model(const std::string& text) {
    const size_t equals = text.find('=');
    const bool named = equals != std::string::npos && text.find('/') > equals;
    if (named) return {text.substr(0, equals), text.substr(equals + 1)};
    std::filesystem::path path(text);
    if (path.filename().empty()) path = path.parent_path();
    const bool is_file = path.extension() == ".gguf" || path.extension() == ".bin";
    return {is_file ? path.stem().string() : path.filename().string(), text};
}

void read_keys(const std::string& path, std::vector<std::string>& keys) {
    if (path.empty()) return;
    const MappedFile file(path);
    std::string line;
    for (const char c : std::string(file.text()) + "\n") {
        if (std::isspace(static_cast<unsigned char>(c)) == 0) {
            line += c;
        } else if (!line.empty()) {
            keys.push_back(std::exchange(line, {}));
        }
    }
    if (keys.empty()) throw Error("{}: expected a key a line, found none", path);
}

std::string url_host(const std::string& host) {
    return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

void run(Options& o) {
    using std::chrono::seconds;
    read_keys(o.api_key_file, o.access.api_keys);
    read_keys(o.admin_key_file, o.access.admin_keys);
    if (!is_loopback(o.http.host) && o.access.api_keys.empty() && !o.insecure) {
        throw Error("--host {} is open to others: expected --api-key-file or SMELT_API_KEY, or --insecure",
                    o.http.host);
    }
    HttpLimits& limits = o.http.limits;
    limits.max_body_bytes = o.max_body_mb << 20;
    limits.header_timeout = seconds(o.header_timeout);
    limits.body_timeout = seconds(o.body_timeout);
    limits.idle_timeout = seconds(o.idle_timeout);
    limits.write_timeout = seconds(o.write_timeout);
    limits.drain_timeout = seconds(o.drain);
    o.set.memory_budget = static_cast<size_t>(o.memory_budget_gb * 1e9);
    o.set.open = {.device = o.device.name(),
                  .backend = {.n_threads = o.device.n_threads},
                  .rope_scaling = o.device.rope_scaling,
                  .n_ctx = o.n_ctx,
                  .kv_tokens = o.kv_tokens,
                  .kv = o.kv,
                  .engine = {.scheduler = {.max_seqs = o.max_seqs}, .max_queue = o.max_queue}};
    o.set.open.engine.scheduler.max_batch_tokens = std::max(512, 2 * o.max_seqs);

    // Before the models: a port in use is known at once. It outlives them, because their engines post to it.
    HttpServer http(o.http);
    ModelSet models(o.set);
    for (const std::string& text : o.models) {
        const auto [name, path] = split_model(text);
        models.load(name, path);
    }
    ServerContext context{.models = models,
                          .access = o.access,
                          .strict = o.strict,
                          .version = version(),
                          .address = fmt::format("http://{}:{}", url_host(o.http.host), http.port()),
                          .n_connections = [&http] { return http.n_connections(); }};
    ApiServer server(context);
    // The one line on stdout, for programs that start a server on a free port.
    fmt::print("{}\n", context.address);
    std::fflush(stdout);
    spdlog::info("serving at {}; documentation at {}/, Ctrl-C ends", context.address, context.address);
    if (const int code = http.run(server); code != 0) throw CLI::RuntimeError(code);
}

}  // namespace

Verb add_serve(CLI::App& smelt) {
    auto o = std::make_shared<Options>();
    CLI::App* verb =
        smelt.add_subcommand("serve", "Serve models over HTTP and WebSocket, as OpenAI's API and more");
    verb->add_option("models", o->models, "Models: PATH or NAME=PATH; requests choose one by name, or auto")
        ->required();
    verb->add_option("--host", o->http.host, "Address to listen on; others than loopback need a key")
        ->capture_default_str();
    verb->add_option("--port", o->http.port, "Port; 0: a free one, printed on stdout")->capture_default_str();
    verb->add_option("--api-key", o->access.api_keys, "A key that requests must carry; may be repeated")
        ->envname("SMELT_API_KEY");
    verb->add_option("--api-key-file", o->api_key_file, "File with a key a line");
    verb->add_option("--admin-key-file", o->admin_key_file,
                     "File with the keys of /admin routes; without it they are off");
    verb->add_option("--allowed-hosts", o->access.allowed_hosts,
                     "Host names that requests may use, beside addresses and localhost");
    verb->add_option("--cors-origins", o->access.cors_origins,
                     "Origins of web pages that may use the server; * for all");
    verb->add_flag("--insecure", o->insecure, "Listen beyond loopback without a key");
    verb->add_flag("--strict", o->strict, "Refuse unknown fields instead of ignoring them");
    verb->add_option("-c,--ctx", o->n_ctx, "Context in tokens; 0: as trained, or what fits into memory")
        ->check(CLI::Range(0, 1 << 30))
        ->capture_default_str();
    verb->add_option("--kv-tokens", o->kv_tokens,
                     "Tokens of the KV cache of a model, for all its conversations; at least the context")
        ->check(CLI::Range(0, 1 << 30))
        ->capture_default_str();
    add_kv_option(*verb, o->kv);
    verb->add_option("--max-seqs", o->max_seqs, "Sequences in a batch at most")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    verb->add_option("--max-queue", o->max_queue, "Requests that wait at most; more get 503")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    verb->add_option("--best", o->set.best,
                     "Name of the model for priority quality; default: the one with most weights");
    verb->add_option("--long-answer", o->set.long_answer,
                     "Tokens beyond which auto takes the most efficient model")
        ->capture_default_str();
    verb->add_option("--memory-budget", o->memory_budget_gb,
                     "GB of weights and KV caches at most; 0: what the machine has")
        ->check(CLI::Range(0.0, 1e6))
        ->capture_default_str();
    verb->add_option("--max-body", o->max_body_mb, "MiB of a request body at most")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    verb->add_option("--max-connections", o->http.limits.max_connections, "Connections at most")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    const auto timeout = [&](const char* name, int& value, const char* what) {
        verb->add_option(name, value, what)->check(CLI::Range(1, 86400))->capture_default_str();
    };
    timeout("--header-timeout", o->header_timeout, "Seconds for a request's headers");
    timeout("--body-timeout", o->body_timeout, "Seconds for a request's body");
    timeout("--idle-timeout", o->idle_timeout, "Seconds that a connection may be idle");
    timeout("--write-timeout", o->write_timeout, "Seconds that a client may not read");
    timeout("--drain", o->drain, "Seconds for requests under way after SIGTERM");
    add_model_options(*verb, o->device);
    verb->footer(
        "Examples:\n  smelt serve models/demo-23m\n"
        "  smelt serve small=models/demo-5m large=models/demo-23m --port 0\n"
        "  curl http://127.0.0.1:8080/v1/chat/completions -d '{\"messages\": [{\"role\": \"user\", "
        "\"content\": "
        "\"What is 12 + 30?\"}]}'");
    return {verb, [o] { run(*o); }};
}

}  // namespace smelt
