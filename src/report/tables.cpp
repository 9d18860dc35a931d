// A column is left out of a table that has nothing in it.
#include "report/tables.h"

#include <fmt/format.h>

#include <algorithm>

namespace smelt {

namespace {

struct Column {
    const char *title, *path;
    double scale = 1;
    const char* format = "{:.4g}";
    bool spread = false;
};
const Column columns[] = {
    {"case", "case"},
    {"program", "program"},
    {"model", "model"},
    {"device", "device"},
    {"format", "format"},
    {"strategy", "strategy"},
    {"threads", "threads"},
    {"at once", "streams"},
    {"prompt", "prompt"},
    {"depth", "depth"},
    {"answer", "generated"},
    {"s", "seconds"},
    {"TTFT, ms", "ttft_ms"},
    {"prompt tok/s", "prefill_tokens_per_s"},
    {"tok/s", "tokens_per_s", 1, "{:.4g}", true},
    {"ms a token, p99", "itl_ms.p99"},
    {"CPU %", "cpu_percent", 1, "{:.0f}"},
    {"GPU %", "gpu_percent", 1, "{:.0f}"},
    {"W", "watts", 1, "{:.0f}"},
    {"weights, MB", "weight_bytes", 1e6, "{:.1f}"},
    {"KV, MB", "kv_bytes", 1e6, "{:.1f}"},
    {"resident, MB", "resident_bytes", 1e6, "{:.0f}"},
    {"speed-up", "speed_up", 1, "{:.2f}"},
};

std::string cell(const Json& row, const Column& c) {
    const auto v = number_at(row, c.path);
    if (!v) return text_at(row, c.path);
    const auto number = [&](double x) {
        return x >= 1000 ? fmt::format("{:.0f}", x) : fmt::format(fmt::runtime(c.format), x);
    };
    std::string text = number(*v / c.scale);
    const auto low = number_at(row, std::string(c.path) + ".min"),
               high = number_at(row, std::string(c.path) + ".max");
    if (c.spread && low && high) text += fmt::format(" ({}–{})", number(*low), number(*high));
    return text;
}

}  // namespace

std::vector<ReportTable> make_tables(const Results& results) {
    const std::pair<const char*, std::vector<std::string>> titles[] = {
        {"By prompt length", {"prompt"}},
        {"Named cases", {"case"}},
        {"By answer length", {"answer"}},
        {"By context", {"depth"}},
        {"Answers at once", {"streams", "clients"}},
        {"Ways to choose tokens", {"strategy"}},
        {"Number formats", {"format"}},
        {"Threads", {"threads"}},
        {"Start", {"start"}}};
    std::vector<ReportTable> tables;
    for (const auto& [title, kinds] : titles) {
        ReportTable table{title, {}, {}};
        std::vector<const Json*> rows;
        for (const Json& row : results.rows) {
            if (std::ranges::find(kinds, text_at(row, "kind")) != kinds.end()) rows.push_back(&row);
        }
        table.rows.resize(rows.size());
        for (const Column& c : columns) {
            // One answer at once is what everybody takes for granted.
            const std::string usual = std::string_view(c.path) == "streams" ? "1" : "";
            const auto says_nothing = [&](const Json* r) {
                return cell(*r, c).empty() || cell(*r, c) == usual;
            };
            if (std::ranges::all_of(rows, says_nothing)) continue;
            table.columns.emplace_back(c.title);
            for (size_t i = 0; i < rows.size(); ++i) table.rows[i].push_back(cell(*rows[i], c));
        }
        if (!rows.empty()) tables.push_back(std::move(table));
    }
    return tables;
}

}  // namespace smelt
