// As prompt-test (github.com/chigkim/prompt-test) does it: streamed chat completions, times as its reader
// sees them, a system message that differs from request to request so that no cache of prompts helps. Its
// files are read and written; what is new is that servers take turns, because the speed of a machine drifts.
#include "apps/bench_compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <filesystem>
#include <optional>
#include <thread>

#include "apps/hub_model.h"
#include "apps/load_meter.h"
#include "apps/series.h"
#include "apps/streamed_answer.h"
#include "apps/values.h"
#include "apps/version.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mapped_file.h"
#include "base/number.h"
#include "files/model_file.h"
#include "lab/built_in_text.h"
#include "text/tokenizer.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

struct Server {
    std::string name, url;
    ServerAddress address;
    std::string model;
    std::vector<std::vector<StreamedAnswer>> answers = {};  // prompt by prompt, round by round
};

// The last words of a text, as many as prompt-test takes: the lengths of n prompts grow by the golden ratio.
std::vector<std::string> cut_prompts(const std::string& text, int n) {
    std::vector<size_t> words;  // where they begin
    for (size_t i = 0; i < text.size(); ++i) {
        const auto space = [&](size_t at) { return std::isspace(static_cast<unsigned char>(text[at])) != 0; };
        if (!space(i) && (i == 0 || space(i - 1))) words.push_back(i);
    }
    const double ratio = (1 + std::sqrt(5.0)) / 2;
    std::vector<std::string> prompts;
    size_t last = 0;
    for (int i = 0; i < n; ++i) {
        const double wanted = std::round(static_cast<double>(words.size()) / std::pow(ratio, n - i - 1));
        const size_t length =
            std::min(std::max({size_t{1}, static_cast<size_t>(wanted), last + 1}), words.size());
        last = length;
        prompts.push_back(text.substr(words[words.size() - length]));
    }
    return prompts;
}

std::vector<std::string> read_prompts(const std::string& source) {
    if (source.empty()) return cut_prompts(std::string(calibration_text().substr(0, 3000)), 6);
    if (!fs::is_directory(source)) {
        const std::string text(MappedFile(source).text());
        if (text.find_first_not_of(" \t\r\n") == std::string::npos)
            throw Error("{}: expected a text, found none", source);
        return cut_prompts(text, 10);
    }
    std::vector<std::pair<int, std::string>> numbered;
    for (const auto& entry : fs::directory_iterator(source)) {
        const auto n = parse_integer<int>(entry.path().stem().string());
        if (entry.path().extension() == ".txt" && n)
            numbered.emplace_back(*n, MappedFile(entry.path()).text());
    }
    std::ranges::sort(numbered);
    std::vector<std::string> prompts;
    for (auto& [n, text] : numbered) prompts.push_back(std::move(text));
    if (prompts.empty()) throw Error("{}: expected prompts 1.txt, 2.txt and so on, found none", source);
    return prompts;
}

Server open_server(const CompareOptions& o, const std::string& text) {
    const size_t equals = text.find('=');
    const bool named = equals != std::string::npos && text.find("://") > equals;
    Server s;
    s.url = named ? text.substr(equals + 1) : text;
    s.address = parse_server_address(s.url);
    s.name = named ? text.substr(0, equals) : fmt::format("{}:{}", s.address.host, s.address.port);
    s.model = o.served_model.empty() ? first_model(s.address, o.key) : o.served_model;
    return s;
}

StreamedAnswer ask(const CompareOptions& o, const Server& s, const std::string& prompt, int n_requests) {
    const std::string system =
        fmt::format("Request {:04}. Summarize the text and say what stands out.", n_requests);
    try {
        return stream_answer(
            s.address, "/v1/chat/completions",
            {{"model", s.model},
             {"messages",
              {{{"role", "system"}, {"content", system}}, {{"role", "user"}, {"content", prompt}}}},
             {"max_tokens", o.n_tokens},
             {"temperature", 0},
             {"seed", 1000},
             {"stream", true},
             {"stream_options", {{"include_usage", true}}}},
            o.key);
    } catch (const Error& e) {
        throw Error("{} ({}): {}", s.name, s.url, e.what());
    }
}

// prompt-test's own definitions.
struct Rates {
    double prefill, decode;
};
Rates rates_of(const StreamedAnswer& a, int n_prompt, int n_tokens) {
    return {n_prompt / std::max(a.first_event / 1e3, 1e-9),
            n_tokens / std::max((a.end - a.first_event) / 1e3, 1e-9)};
}

class Comparison {
 public:
    explicit Comparison(const CompareOptions& o) : o_(o), prompts_(read_prompts(o.prompts)) {
        for (const std::string& text : o.servers) servers_.push_back(open_server(o, text));
        if (!o.model.empty()) tokenizer_.emplace(load_tokenizer(*open_model(local_model(o.model))));
    }

    Json run() {
        Json result = {{"compare", 1},
                       {"smelt", version()},
                       {"started", date_and_time()},
                       {"command", "smelt bench --compare"},
                       {"machine", describe_machine(0)},
                       {"counted_by", tokenizer_ ? Json(o_.model) : Json("the servers")},
                       {"rows", Json::array()}};
        for (Server& s : servers_) {
            result["command"] = result["command"].get<std::string>() + " " + s.name + "=" + s.url;
            s.answers.resize(prompts_.size());
            ask(o_, s, "This is a test.", n_requests_++);  // not counted
        }
        for (int round = 0; round < o_.n_rounds; ++round) {
            for (size_t p = 0; p < prompts_.size(); ++p) measure(round, p);
        }
        for (size_t p = 0; p < prompts_.size(); ++p) {
            for (const Server& s : servers_) result["rows"].push_back(row_of(s, p));
        }
        if (!o_.report_folder.empty()) {
            for (const Server& s : servers_) write_report(s);
        }
        return result;
    }

 private:
    // All servers get the same text; who is first changes.
    void measure(int round, size_t p) {
        const int n = n_requests_++;
        for (size_t i = 0; i < servers_.size(); ++i) {
            Server& s = servers_[(i + static_cast<size_t>(round) + p) % servers_.size()];
            if (o_.cooling > 0) std::this_thread::sleep_for(std::chrono::duration<double>(o_.cooling));
            s.answers[p].push_back(ask(o_, s, prompts_[p], n));
            spdlog::info("round {} of {}, prompt {} of {}: {} {:.0f} ms to the first token", round + 1,
                         o_.n_rounds, p + 1, prompts_.size(), s.name, s.answers[p].back().ttft);
        }
    }

    int count(const std::string& text) const { return static_cast<int>(tokenizer_->encode(text).size()); }
    int prompt_tokens(size_t p, const StreamedAnswer& a) const {
        return tokenizer_ ? count(prompts_[p]) : a.n_prompt;
    }
    int answer_tokens(const StreamedAnswer& a) const { return tokenizer_ ? count(a.text) : a.n_tokens; }

    Json row_of(const Server& s, size_t p) const {
        Series ttft, prefill, decode, seconds;
        std::vector<double> between;
        for (const StreamedAnswer& a : s.answers[p]) {
            const Rates r = rates_of(a, prompt_tokens(p, a), answer_tokens(a));
            ttft.values.push_back(a.ttft);
            prefill.values.push_back(r.prefill);
            decode.values.push_back(r.decode);
            seconds.values.push_back(a.end / 1e3);
            between.insert(between.end(), a.itl.begin(), a.itl.end());
        }
        const StreamedAnswer& last = s.answers[p].back();
        return {{"kind", "prompt"},
                {"program", s.name},
                {"model", s.model},
                {"prompt", prompt_tokens(p, s.answers[p].front())},
                {"generated", answer_tokens(last)},
                {"usage", {{"prompt_tokens", last.n_prompt}, {"completion_tokens", last.n_tokens}}},
                {"seconds", seconds.json()},
                {"ttft_ms", percentiles(ttft.values)},
                {"itl_ms", percentiles(between)},
                {"prefill_tokens_per_s", prefill.json()},
                {"tokens_per_s", decode.json()},
                {"answer_text", last.text}};
    }

    // One file for each server: prompt-test's report-MODEL.txt, the lines of all rounds.
    void write_report(const Server& s) const {
        const auto plain = [](std::string text) {
            for (char& c : text) c = std::isalnum(static_cast<unsigned char>(c)) != 0 ? c : '_';
            return text;
        };
        std::string out = fmt::format(
            "{}\nModel: {}\n| Machine | Engine | Prompt Tokens | PP/s | TTFT | Generated Tokens | TG/s | "
            "Duration |\n"
            "| ------- | ------ | ------------- | ---- | ---- | ---------------- | ---- | -------- |\n",
            date_and_time(), plain(s.model));
        double all = 0;
        for (size_t p = 0; p < prompts_.size(); ++p) {
            for (const StreamedAnswer& a : s.answers[p]) {
                const int n_prompt = prompt_tokens(p, a), n_tokens = answer_tokens(a);
                const Rates r = rates_of(a, n_prompt, n_tokens);
                out += fmt::format("| {} | {} | {} | {:.2f} | {:.2f} | {} | {:.2f} | {:.2f} |\n",
                                   processor_name(), s.name, n_prompt, r.prefill, a.first_event / 1e3,
                                   n_tokens, r.decode, a.end / 1e3);
                all += a.end / 1e3;
            }
        }
        out += fmt::format("\nTotal duration: {:.0f}s\n", all);
        fs::create_directories(o_.report_folder);
        AtomicFile file(fs::path(o_.report_folder) /
                        fmt::format("report-{}-{}.txt", plain(s.model), plain(s.name)));
        file.write(out);
        file.commit();
    }

    const CompareOptions& o_;
    std::vector<std::string> prompts_;
    std::vector<Server> servers_;
    std::optional<Tokenizer> tokenizer_;
    int n_requests_ = 0;
};

void print_table(const Json& result) {
    fmt::print("{:<24} {:>7} {:>10} {:>12} {:>12} {:>7} {:>10} {:>9}\n", "server", "prompt", "TTFT, ms",
               "prompt tok/s", "p99 ITL, ms", "tokens", "tok/s", "s");
    for (const Json& r : result.at("rows")) {
        const auto at = [&](const char* key, const char* part) {
            return r.at(key).is_object() ? r.at(key).at(part).get<double>() : 0.0;
        };
        fmt::print("{:<24} {:>7} {:>10.1f} {:>12.1f} {:>12.2f} {:>7} {:>10.2f} {:>9.3f}\n",
                   r.at("program").get<std::string>(), r.at("prompt").get<int>(), at("ttft_ms", "median"),
                   at("prefill_tokens_per_s", "median"), at("itl_ms", "p99"), r.at("generated").get<int>(),
                   at("tokens_per_s", "median"), at("seconds", "median"));
    }
    fmt::print("medians; tokens are counted by {}\n", result.at("counted_by").get<std::string>());
}

}  // namespace

void add_compare_options(CLI::App& verb, CompareOptions& o) {
    CLI::Option* compare = verb.add_option("--compare", o.servers,
                                           "Servers with OpenAI's API that get the same prompts in turn: "
                                           "[NAME=]http://HOST:PORT; with a "
                                           "MODEL, its tokenizer counts")
                               ->expected(1, -1)
                               ->type_name("URL");
    verb.add_option("--prompts", o.prompts, "Their prompts: prompt-test's prompt.txt or its folder prompts")
        ->check(CLI::ExistingPath)
        ->type_name("PATH")
        ->needs(compare);
    verb.add_option("--prompt-test", o.report_folder, "Also write prompt-test's result files there")
        ->type_name("DIR")
        ->needs(compare);
    verb.add_option("--cooling", o.cooling, "Seconds between two requests of --compare")
        ->check(in_range(0.0, 3600.0))
        ->needs(compare);
    verb.add_option("--api-key", o.key, "The key that the servers of --compare ask for")->needs(compare);
}

void bench_compare(const CompareOptions& o) {
    const Json result = Comparison(o).run();
    if (o.json) return fmt::print("{}\n", result.dump(1));
    print_table(result);
}

}  // namespace smelt
