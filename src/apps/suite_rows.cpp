// Every run is an example of a series: medians, the worst and the best are told.
#include "apps/suite_rows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/process_use.h"
#include "report/csv.h"
#include "report/plot.h"
#include "report/tables.h"

namespace smelt {

namespace {

// Tokens a second in about 25 pieces of an answer: (seconds in the middle of the piece, rate).
Json over_time(const std::vector<double>& times) {
    Json pieces = Json::array();
    const size_t step = std::max<size_t>(times.size() / 25, 1);
    for (size_t i = 0; i + step < times.size(); i += step) {
        const double from = times[i], to = times[i + step];
        if (to > from) pieces.push_back({(from + to) / 2, static_cast<double>(step) / (to - from)});
    }
    return pieces;
}

void set_strategy(Request& r, const std::string& strategy) {
    r.sampling.seed = 1;
    r.sampling.temperature = strategy.empty() || strategy == "greedy" ? 0 : 0.7f;
    if (strategy == "top-k") r.sampling.top_k = 50;
    if (strategy == "top-p") r.sampling.top_p = 0.9f;
    if (strategy == "beam") r.beams.width = 4;
}

}  // namespace

Request make_request(const SuiteTarget& target, int n_prompt, int n_answer) {
    Request r;
    r.tokens = target.some_text(n_prompt);
    r.max_tokens = n_answer;
    r.ignore_eos = true;
    r.sampling.temperature = 0;
    return r;
}

Request make_request(const SuiteTarget& target, const SuiteCase& c) {
    Request r = make_request(target, c.prompt, c.answer);
    if (!c.question.empty()) r.tokens = target.question(c.question);
    if (c.may_stop) {
        r.ignore_eos = false;
        r.stop_ids = target.chat()->stop_ids();
    }
    set_strategy(r, c.strategy);
    return r;
}

Json make_row(const SuiteCase& c, const SuiteTarget& target, const std::string& model,
              const std::vector<SuiteRun>& runs, size_t first) {
    Series seconds, prefill, rate, cpu, gpu, watts;
    std::vector<double> ttft, between;
    int n_generated = 0, n_cached = 0;
    const auto n = static_cast<size_t>(c.streams);
    for (const SuiteRun& run : runs) {
        double end = 0, first_token = 1e300, alone = 0;
        int tokens = 0, prompts = 0;
        for (size_t i = first; i < first + n; ++i) {
            const SuiteAnswer& a = run.answers[i];
            const double begins = a.finish.queued + a.finish.prefill;
            ttft.push_back(1e3 * begins);
            for (size_t t = 1; t < a.times.size(); ++t)
                between.push_back(1e3 * (a.times[t] - a.times[t - 1]));
            end = std::max(end, a.end);
            if (!a.times.empty()) first_token = std::min(first_token, a.times.front());
            alone = a.finish.decode;
            tokens += a.finish.n_generated;
            prompts += a.finish.n_prompt;
            n_cached = std::max(n_cached, a.finish.n_cached_prompt);
        }
        n_generated = tokens;
        seconds.values.push_back(end);
        prefill.values.push_back(prompts / std::max(1e-3 * ttft.back(), 1e-9));
        // The engine's own clock, which a reader that waits for a core does not stop.
        const double writing = c.streams == 1 ? alone : end - first_token;
        if (tokens > c.streams) rate.values.push_back((tokens - c.streams) / std::max(writing, 1e-9));
        cpu.values.push_back(run.load.cpu_percent);
        if (run.load.gpu_percent) gpu.values.push_back(*run.load.gpu_percent);
        if (run.load.watts) watts.values.push_back(*run.load.watts);
    }
    const SuiteAnswer& last = runs.back().answers[first];
    Json row = {{"id", c.id()},
                {"kind", c.kind},
                {"model", model},
                {"device", c.device},
                {"prompt", last.finish.n_prompt},
                {"cached_prompt", n_cached},
                {"answer", c.answer},
                {"generated", n_generated},
                {"streams", c.streams},
                {"runs", runs.size()},
                {"seconds", seconds.json()},
                {"ttft_ms", percentiles(ttft)}};
    if (c.streams == 1) row["prefill_tokens_per_s"] = prefill.json();
    if (!rate.values.empty()) row["tokens_per_s"] = rate.json();
    // Beams are told at the end.
    if (c.strategy != "beam" && !between.empty()) row["itl_ms"] = percentiles(between);
    row["cpu_percent"] = cpu.json();
    if (!gpu.values.empty()) row["gpu_percent"] = gpu.json();
    if (!watts.values.empty()) row["watts"] = watts.json();
    row["weight_bytes"] = target.model().weight_bytes();
    row["kv_bytes"] = target.kv_bytes(last.finish.n_prompt + last.finish.n_generated, c.streams);
    row["activation_bytes"] = target.runner().activation_bytes();
    row["resident_bytes"] = read_process_use().resident;
    const std::pair<const char*, const std::string&> words[] = {
        {"format", c.format}, {"strategy", c.strategy}, {"case", c.name}, {"question", c.question}};
    for (const auto& [key, text] : words) {
        if (!text.empty()) row[key] = text;
    }
    if (c.threads > 0) row["threads"] = c.threads;
    if (c.together) row["together"] = true;
    if (c.over_time) row["over_time"] = over_time(last.times);
    if (!c.question.empty()) row["text"] = target.chat()->tokenizer().decode(last.ids, true);
    return row;
}

std::string suite_csv(const Json& result) {
    const char* columns[] = {"kind",
                             "model",
                             "device",
                             "format",
                             "strategy",
                             "case",
                             "threads",
                             "streams",
                             "prompt",
                             "answer",
                             "generated",
                             "runs",
                             "seconds",
                             "ttft_ms",
                             "ttft_ms.p99",
                             "prefill_tokens_per_s",
                             "tokens_per_s",
                             "tokens_per_s.min",
                             "tokens_per_s.max",
                             "itl_ms.median",
                             "itl_ms.p99",
                             "cpu_percent",
                             "gpu_percent",
                             "watts",
                             "weight_bytes",
                             "kv_bytes",
                             "activation_bytes",
                             "resident_bytes",
                             "speed_up"};
    const Json& m = result.at("machine");
    CsvTable table = {{columns, columns + std::size(columns)}};
    const std::pair<const char*, std::string> machine[] = {
        {"processor", text_at(m, "processor")},
        {"cores", text_at(m, "physical_cores")},
        {"memory_bytes", fmt::format("{}", m.at("memory_bytes").get<uint64_t>())},
        {"gpu", text_at(m, "gpu")},
        {"system", text_at(m, "system")},
        {"smelt", text_at(result, "smelt")},
        {"started", text_at(result, "started")}};
    for (const auto& [name, text] : machine) table.front().emplace_back(name);
    for (const Json& row : result.at("rows")) {
        CsvRow& line = table.emplace_back();
        for (const char* c : columns) {
            const auto v = number_at(row, c);
            line.push_back(v ? fmt::format("{:.10g}", *v) : text_at(row, c));
        }
        for (const auto& [name, text] : machine) line.push_back(text);
    }
    return csv_text(table);
}

void print_suite(const Json& result) {
    const Json& m = result.at("machine");
    fmt::print("{}, {} cores, {}\n{}\n", text_at(m, "processor"), text_at(m, "physical_cores"),
               text_at(result, "started"), text_at(result, "command"));
    Results results;
    for (const Json& row : result.at("rows")) results.rows.push_back(row);
    for (const ReportTable& t : make_tables(results)) {
        std::vector<size_t> widths(t.columns.size());
        const auto measure = [&](const std::vector<std::string>& row) {
            for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], n_characters(row[c]));
        };
        measure(t.columns);
        for (const auto& row : t.rows) measure(row);
        fmt::print("\n{}\n", t.title);
        const auto line = [&](const std::vector<std::string>& row) {
            for (size_t c = 0; c < row.size(); ++c) {
                fmt::print("{}{}{}", c == 0 ? "" : "  ", std::string(widths[c] - n_characters(row[c]), ' '),
                           row[c]);
            }
            fmt::print("\n");
        };
        line(t.columns);
        for (const auto& row : t.rows) line(row);
    }
    for (const Json& s : result.at("skipped")) {
        fmt::print("not measured: {}: {}\n", text_at(s, "case"), text_at(s, "reason"));
    }
}

}  // namespace smelt
