// One small function for each kind of file.
#include "report/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/number.h"
#include "report/csv.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

// The members that rows of a file have in common.
Json head_of(const Json& file) {
    Json head = Json::object();
    for (const char* key : {"model", "device", "kv", "program", "threads"}) {
        if (file.contains(key)) head[key] = file[key];
    }
    return head;
}

Json with(Json head, const Json& more) {
    head.update(more);
    return head;
}

// Throws Json::exception, as at() does, where it is no list of objects.
const Json& list_at(const Json& file, const char* key) {
    const Json& list = file.at(key);
    for (const Json& item : list.get_ref<const Json::array_t&>()) (void)item.get_ref<const Json::object_t&>();
    return list;
}

void add_ops(const Json& file, Results& out) {
    for (const Json& phase : list_at(file, "phases")) {
        for (const Json& op : list_at(phase, "ops")) {
            Json row = with(head_of(file), op);
            row["phase"] = phase.at("phase");
            for (const char* roof : {"roof_bytes_per_s", "roof_flops_per_s"}) {
                if (file.contains(roof)) row[roof] = file[roof];
            }
            out.ops.push_back(std::move(row));
        }
    }
}

void add_suite(const Json& file, Results& out) {
    for (const Json& row : list_at(file, "rows")) out.rows.push_back(row);
    if (file.contains("ops")) {
        for (const Json& ops : list_at(file, "ops")) add_ops(ops, out);
    }
    if (file.contains("skipped")) {
        for (const Json& s : list_at(file, "skipped")) out.skipped.push_back(s);
    }
}

void add_bench(const Json& file, Results& out) {
    if (file.contains("prefill")) {
        const Json& p = file["prefill"];
        out.rows.push_back(with(head_of(file), {{"kind", "prompt"},
                                                {"prompt", p.at("tokens")},
                                                {"prefill_tokens_per_s", p.at("tokens_per_s")}}));
    }
    if (file.contains("decode")) {
        const Json& d = file["decode"];
        out.rows.push_back(with(head_of(file), {{"kind", "depth"},
                                                {"depth", d.at("depth")},
                                                {"answer", d.at("tokens")},
                                                {"tokens_per_s", d.at("tokens_per_s")}}));
    }
}

void add_batch(const Json& file, Results& out) {
    for (const Json& b : list_at(file, "batch")) {
        out.rows.push_back(with(
            head_of(file),
            {{"kind", "streams"}, {"streams", b.at("sequences")}, {"tokens_per_s", b.at("tokens_per_s")}}));
    }
}

void add_loads(const Json& file, Results& out) {
    const auto percentiles = [](const Json& v) {
        if (!v.is_object()) return Json();
        return Json{{"median", v.at("median_ms")}, {"p90", v.at("p90_ms")}, {"p99", v.at("p99_ms")}};
    };
    for (const Json& l : list_at(file, "loads")) {
        out.rows.push_back(with(head_of(file), {{"kind", "clients"},
                                                {"streams", l.at("clients")},
                                                {"tokens_per_s", l.at("output_tokens_per_second")},
                                                {"ttft_ms", percentiles(l.at("ttft"))},
                                                {"itl_ms", percentiles(l.at("itl"))}}));
    }
}

// bench/compare.py's columns: file,threads,prompt,decode,depth,round,program,tokens_per_s; or "work", a word
// and numbers, in place of prompt, decode and depth.
void add_csv(const CsvTable& table, const fs::path& path, Results& out) {
    const CsvRow& columns = table.front();
    const auto cell = [&](const CsvRow& row, const char* name) -> std::string {
        const auto at = static_cast<size_t>(std::ranges::find(columns, name) - columns.begin());
        return at < row.size() ? row[at] : "";
    };
    const auto number = [&](const std::string& text, const char* what) {
        const auto v = parse_real(text);
        if (!v) throw Error("{}: {}: expected a number, found \"{}\"", path.string(), what, text);
        return *v;
    };
    std::map<Json, std::vector<double>> rounds;
    for (size_t i = 1; i < table.size(); ++i) {
        const CsvRow& row = table[i];
        double prompt = 0, depth = 0;
        if (const std::string work = cell(row, "work"); !work.empty()) {
            if (work.starts_with("prefill ")) prompt = number(work.substr(8), "work");
            const size_t at = work.find(" at ");
            if (at != std::string::npos) depth = number(work.substr(at + 4), "work");
        } else {
            prompt = number(cell(row, "prompt"), "prompt");
            depth = number(cell(row, "depth"), "depth");
        }
        const double rate = number(cell(row, "tokens_per_s"), "tokens_per_s");
        Json r = {{"model", cell(row, "file")},
                  {"program", cell(row, "program")},
                  {"threads", number(cell(row, "threads"), "threads")}};
        r.update(prompt > 0 ? Json{{"kind", "prompt"}, {"prompt", prompt}}
                            : Json{{"kind", "depth"}, {"depth", depth}});
        rounds[r].push_back(rate);
    }
    for (auto& [row, rates] : rounds) {
        std::ranges::sort(rates);
        Json r = row;
        r[r["kind"] == "prompt" ? "prefill_tokens_per_s" : "tokens_per_s"] = {
            {"median", rates[rates.size() / 2]}, {"min", rates.front()}, {"max", rates.back()}};
        out.rows.push_back(std::move(r));
    }
}

// prompt-test's report-MODEL.txt: a date, the model, a table.
void add_prompt_test(std::string_view text, const fs::path& path, Results& out) {
    const std::vector<std::string> header = {"Machine", "Engine",           "Prompt Tokens", "PP/s",
                                             "TTFT",    "Generated Tokens", "TG/s",          "Duration"};
    std::string model;
    bool in_table = false;
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(line.size() + 1, text.size()));
        if (line.starts_with("Model: ")) model = line.substr(7);
        if (!line.starts_with("| ")) continue;
        std::vector<std::string> cells;
        for (size_t begin = 2, end = 0; (end = line.find(" |", begin)) != std::string_view::npos;
             begin = end + 3)
            cells.emplace_back(line.substr(begin, end - begin));
        if (cells == header) {
            in_table = true;
            continue;
        }
        if (!in_table || cells.size() != header.size() || cells[0].starts_with("-")) continue;
        const auto at = [&](size_t i) {
            const auto v = parse_real(cells[i]);
            if (!v)
                throw Error("{}: {}: expected a number, found \"{}\"", path.string(), header[i], cells[i]);
            return *v;
        };
        out.rows.push_back({{"kind", "prompt"},
                            {"program", cells[1]},
                            {"model", model},
                            {"prompt", at(2)},
                            {"prefill_tokens_per_s", at(3)},
                            {"ttft_ms", 1e3 * at(4)},
                            {"generated", at(5)},
                            {"tokens_per_s", at(6)},
                            {"seconds", at(7)}});
    }
    if (!in_table) throw Error("{}: expected the table of prompt-test, found none", path.string());
    out.sources.push_back({{"file", path.filename().string()}});
}

void read_json(const fs::path& path, std::string_view text, Results& out) {
    const Json file = parse_json(text, path.string());
    const auto has = [&](const char* key) { return file.is_object() && file.contains(key); };
    try {
        if (has("rows")) {
            add_suite(file, out);
        } else if (has("phases")) {
            add_ops(file, out);
        } else if (has("batch")) {
            add_batch(file, out);
        } else if (has("loads")) {
            add_loads(file, out);
        } else if (has("prefill") || has("decode")) {
            add_bench(file, out);
        } else {
            throw Error("{}: expected what smelt bench --json or bench/compare.py writes, found other JSON",
                        path.string());
        }
    } catch (const Json::exception& e) {
        throw Error("{}: expected a result of smelt bench: {}", path.string(), e.what());
    }
    Json source = {{"file", path.filename().string()}};
    for (const char* key : {"smelt", "command", "started", "seconds", "machine", "models", "devices"}) {
        if (has(key)) source[key] = file[key];
    }
    out.sources.push_back(std::move(source));
}

}  // namespace

Results read_results(const std::vector<fs::path>& files) {
    Results out;
    for (const fs::path& path : files) {
        const MappedFile file(path);
        if (path.extension() == ".txt") {
            add_prompt_test(file.text(), path, out);
            continue;
        }
        if (path.extension() != ".csv") {
            read_json(path, file.text(), out);
            continue;
        }
        const CsvTable table = parse_csv(file.text());
        const auto has = [&](const char* name) {
            return std::ranges::find(table.front(), name) != table.front().end();
        };
        if (table.empty() || !has("program") || !has("tokens_per_s") || (!has("work") && !has("prompt"))) {
            throw Error("{}: expected the columns of bench/compare.py, found others", path.string());
        }
        add_csv(table, path, out);
        out.sources.push_back({{"file", path.filename().string()}});
    }
    return out;
}

std::optional<double> number_at(const Json& row, const std::string& path) {
    const Json* at = &row;
    for (size_t begin = 0; begin <= path.size();) {
        const size_t end = std::min(path.find('.', begin), path.size());
        const auto member = at->is_object() ? at->find(path.substr(begin, end - begin)) : at->end();
        if (!at->is_object() || member == at->end()) return std::nullopt;
        at = &*member;
        begin = end + 1;
    }
    if (at->is_object() && at->contains("median")) at = &(*at)["median"];
    if (!at->is_number()) return std::nullopt;
    return at->get<double>();
}

std::string text_at(const Json& row, const std::string& path) {
    if (const auto v = number_at(row, path)) return fmt::format("{:.6g}", *v);
    const auto member = row.find(path);
    return member != row.end() && member->is_string() ? member->get<std::string>() : "";
}

}  // namespace smelt
