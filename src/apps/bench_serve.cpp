// Definitions, as vLLM's `bench serve` has them:
//   TTFT  time to first token: from the request to its first event with text
//   ITL   inter-token latency: between two events with text
//   TPOT  time per output token: (whole time - TTFT) / (tokens of the answer - 1)
//   goodput  requests per second of those within the given TTFT and TPOT
// Closed loop: each client sends its next request when the one before has ended. Prompts differ, so that no
// cache helps.
#include "apps/bench_serve.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <mutex>
#include <numeric>
#include <random>
#include <thread>

#include "apps/hub_model.h"
#include "apps/streamed_answer.h"
#include "apps/version.h"
#include "base/error.h"
#include "base/json.h"
#include "server/api_server.h"

namespace smelt {

namespace {

using Clock = std::chrono::steady_clock;

double ms_between(Clock::time_point a, Clock::time_point b) {
    return std::chrono::duration<double, std::milli>(b - a).count();
}

std::string random_prompt(int n_words, uint64_t seed) {
    static constexpr const char* words[] = {"time",  "house", "water", "number",
                                            "light", "story", "river", "music"};
    std::mt19937_64 random(seed);
    std::string text;
    for (int i = 0; i < n_words; ++i) text += fmt::format("{} ", words[random() % std::size(words)]);
    return text;
}

StreamedAnswer run_one(const ServeBenchOptions& o, const ServerAddress& address, const std::string& model,
                       uint64_t seed) {
    return stream_answer(address, "/v1/completions",
                         {{"model", model},
                          {"prompt", random_prompt(o.n_prompt, seed)},
                          {"max_tokens", o.n_decode},
                          {"ignore_eos", true},
                          {"temperature", 0},
                          {"stream", true},
                          {"stream_options", {{"include_usage", true}}}});
}

Json summary(std::vector<double> values) {
    if (values.empty()) return nullptr;
    std::ranges::sort(values);
    const auto at = [&](double q) {
        return values[static_cast<size_t>(q * static_cast<double>(values.size() - 1))];
    };
    const double sum = std::accumulate(values.begin(), values.end(), 0.0);
    return {{"mean_ms", sum / static_cast<double>(values.size())},
            {"median_ms", at(0.5)},
            {"p90_ms", at(0.9)},
            {"p99_ms", at(0.99)}};
}

struct ClientLoad {
    std::vector<StreamedAnswer> samples;
    double seconds = 0;
};

ClientLoad run_clients(const ServeBenchOptions& o, const ServerAddress& address, const std::string& model,
                       int n_clients) {
    ClientLoad load;
    std::mutex mutex;
    std::string failure;
    static uint64_t n_prompts = 0;
    const uint64_t first = n_prompts;
    n_prompts += static_cast<uint64_t>(n_clients * o.n_requests);
    const auto start = Clock::now();
    std::vector<std::thread> threads;
    for (int c = 0; c < n_clients; ++c) {
        threads.emplace_back([&, c] {
            try {
                for (int i = 0; i < o.n_requests; ++i) {
                    StreamedAnswer s =
                        run_one(o, address, model, first + static_cast<uint64_t>(c * o.n_requests + i));
                    const std::lock_guard lock(mutex);
                    load.samples.push_back(std::move(s));
                }
            } catch (const std::exception& e) {
                const std::lock_guard lock(mutex);
                failure = e.what();
            }
        });
    }
    for (std::thread& t : threads) t.join();
    load.seconds = ms_between(start, Clock::now()) / 1e3;
    if (!failure.empty()) throw Error("{}", failure);
    return load;
}

Json evaluate(const ServeBenchOptions& o, const ClientLoad& load, int n_clients) {
    std::vector<double> ttft, tpot, itl, whole, added_ttft, added_decode;
    int64_t n_tokens = 0;
    int n_good = 0;
    for (const StreamedAnswer& s : load.samples) {
        ttft.push_back(s.ttft);
        tpot.push_back(s.tpot());
        whole.push_back(s.whole);
        itl.insert(itl.end(), s.itl.begin(), s.itl.end());
        n_tokens += s.n_tokens;
        n_good += (o.good_ttft_ms == 0 || s.ttft <= o.good_ttft_ms) &&
                  (o.good_tpot_ms == 0 || s.tpot() <= o.good_tpot_ms);
        if (s.engine_ttft >= 0) added_ttft.push_back(s.ttft - s.engine_ttft);
        if (s.engine_decode > 0) added_decode.push_back(100 * ((s.whole - s.ttft) / s.engine_decode - 1));
    }
    const auto median = [](std::vector<double>& v) {
        std::ranges::sort(v);
        return v.empty() ? Json() : Json(v[v.size() / 2]);
    };
    return {{"clients", n_clients},
            {"requests", load.samples.size()},
            {"seconds", load.seconds},
            {"requests_per_second", static_cast<double>(load.samples.size()) / load.seconds},
            {"goodput", n_good / load.seconds},
            {"output_tokens_per_second", static_cast<double>(n_tokens) / load.seconds},
            {"ttft", summary(ttft)},
            {"itl", summary(itl)},
            {"tpot", summary(tpot)},
            {"e2el", summary(whole)},
            {"added_by_server", {{"ttft_ms", median(added_ttft)}, {"decode_percent", median(added_decode)}}}};
}

void print_row(const Json& r) {
    const auto number = [](const Json& v) {
        return v.is_number() ? fmt::format("{:.2f}", v.get<double>()) : "-";
    };
    fmt::print("{:>7} {:>9.0f} {:>8.2f} {:>8.2f}  {:>8} {:>8}  {:>8} {:>8}  {:>8}  {:>8} {:>8}\n",
               r["clients"].get<int>(), r["output_tokens_per_second"].get<double>(),
               r["requests_per_second"].get<double>(), r["goodput"].get<double>(),
               number(r["ttft"]["median_ms"]), number(r["ttft"]["p99_ms"]), number(r["itl"]["median_ms"]),
               number(r["itl"]["p99_ms"]), number(r["tpot"]["median_ms"]),
               number(r["added_by_server"]["ttft_ms"]), number(r["added_by_server"]["decode_percent"]));
    std::fflush(stdout);
}

void measure(const ServeBenchOptions& o, const ServerAddress& address) {
    const std::string model = o.model.empty() ? first_model(address) : o.model;
    run_clients(o, address, model, 1);  // not counted
    if (!o.json) {
        fmt::print("model {}, {} words of prompt, {} tokens of answer, {} requests a client; times in ms\n",
                   model, o.n_prompt, o.n_decode, o.n_requests);
        fmt::print("{:>7} {:>9} {:>8} {:>8}  {:>8} {:>8}  {:>8} {:>8}  {:>8}  {:>8} {:>8}\n", "clients",
                   "tokens/s", "req/s", "good/s", "TTFT", "p99", "ITL", "p99", "TPOT", "+TTFT", "+dec %");
    }
    Json results = Json::array();
    for (const int n : o.clients) {
        results.push_back(evaluate(o, run_clients(o, address, model, n), n));
        if (!o.json) print_row(results.back());
    }
    if (o.json) {
        fmt::print("{}\n", Json{{"model", model},
                                {"prompt_words", o.n_prompt},
                                {"answer_tokens", o.n_decode},
                                {"requests_per_client", o.n_requests},
                                {"good", {{"ttft_ms", o.good_ttft_ms}, {"tpot_ms", o.good_tpot_ms}}},
                                {"loads", std::move(results)}}
                               .dump(2));
    }
}

}  // namespace

void bench_serve(const ServeBenchOptions& o) {
    if (o.device.trace != nullptr && o.target.starts_with("http"))
        throw CLI::ValidationError("--trace", "the steps of " + o.target + " run in another process");
    if (o.target.starts_with("http://")) return measure(o, parse_server_address(o.target));
    if (o.target.starts_with("https://"))
        throw Error("{}: https is not measured; give an http:// address", o.target);
    HttpServer http({.port = 0, .handle_signals = false});
    const int most = *std::ranges::max_element(o.clients);
    ModelSet::Options set;
    set.open.device = o.device.name();
    set.open.rope_scaling = o.device.rope_scaling;
    set.open.backend = o.device.backend();
    set.open.kv_tokens = 16384;
    set.open.engine.scheduler.max_seqs = std::max(32, most);
    set.open.engine.max_queue = std::max(256, most);
    ModelSet models(set);
    models.load("model", local_model(o.target));
    ServerContext context{.models = models, .version = version()};
    ApiServer server(context);
    std::thread serving([&] { http.run(server); });
    const struct Stop {
        HttpServer& http;
        std::thread& thread;
        ~Stop() {
            http.stop();
            thread.join();
        }
    } stop{http, serving};
    measure(o, {"127.0.0.1", std::to_string(http.port())});
}

}  // namespace smelt
