// A row belongs to the series that is named by what tells rows of a plot apart: program, model, device, ...
#include "report/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/number.h"

namespace smelt {

namespace {

using Kinds = std::vector<std::string>;
using Rows = std::vector<const Json*>;

struct Curve {
    const char *path, *name;  // of the number; what it is called where there are several
};
struct LineSpec {
    const char *id, *title, *x, *x_title, *y_title;
    std::vector<Curve> curves;
    Kinds kinds;
    bool log_x = true, log_y = false;
    double scale = 1;  // the numbers are divided by it
};
const LineSpec line_specs[] = {
    {"speed-by-prompt",
     "Answer speed behind a prompt",
     "prompt",
     "tokens of prompt",
     "tok/s of the answer",
     {{"tokens_per_s", ""}},
     {"prompt"}},
    {"prefill-by-prompt",
     "Reading speed by prompt length",
     "prompt",
     "tokens of prompt",
     "tok/s of the prompt",
     {{"prefill_tokens_per_s", ""}},
     {"prompt"}},
    {"ttft-by-prompt",
     "Time to first token",
     "prompt",
     "tokens of prompt",
     "ms",
     {{"ttft_ms", ""}},
     {"prompt"},
     true,
     true},
    {"speed-up",
     "Speed-up by prompt length",
     "prompt",
     "tokens of prompt",
     "times the first device",
     {{"speed_up", ""}},
     {"prompt"}},
    {"speed-by-answer",
     "Answer speed by answer length",
     "answer",
     "tokens of answer",
     "tok/s",
     {{"tokens_per_s", ""}},
     {"answer"}},
    {"speed-by-depth",
     "Answer speed by tokens in the context",
     "depth",
     "tokens in the context",
     "tok/s",
     {{"tokens_per_s", ""}},
     {"depth"},
     false},
    {"speed-by-streams",
     "Speed of answers at once",
     "streams",
     "answers at once",
     "tok/s together",
     {{"tokens_per_s", ""}},
     {"streams", "clients"}},
    {"latency",
     "Time between tokens",
     "streams",
     "answers at once",
     "ms",
     {{"itl_ms.median", "median"}, {"itl_ms.p90", "p90"}, {"itl_ms.p99", "p99"}},
     {"streams", "clients"},
     true,
     true},
    {"ttft-by-streams",
     "Time to first token, many at once",
     "streams",
     "answers at once",
     "ms",
     {{"ttft_ms.median", "median"}, {"ttft_ms.p90", "p90"}, {"ttft_ms.p99", "p99"}},
     {"streams", "clients"},
     true,
     true},
    {"speed-by-threads",
     "Answer speed by threads",
     "threads",
     "threads",
     "tok/s of the answer",
     {{"tokens_per_s", ""}},
     {"threads", "depth"},
     false},
    {"prefill-by-threads",
     "Reading speed by threads",
     "threads",
     "threads",
     "tok/s of the prompt",
     {{"prefill_tokens_per_s", ""}},
     {"threads", "prompt"},
     false},
    {"memory",
     "Memory",
     "prompt",
     "tokens of prompt",
     "MB",
     {{"weight_bytes", "weights"},
      {"kv_bytes", "KV"},
      {"activation_bytes", "activations"},
      {"resident_bytes", "resident"}},
     {"prompt"},
     true,
     true,
     1e6},
    {"utilisation",
     "Utilisation",
     "prompt",
     "tokens of prompt",
     "%",
     {{"cpu_percent", "CPU"}, {"gpu_percent", "GPU"}},
     {"prompt"}},
    {"power", "Power", "prompt", "tokens of prompt", "W", {{"watts", ""}}, {"prompt"}},
};

struct BarSpec {
    const char *id, *title, *category, *y_title, *path;
    Kinds kinds;
    double scale = 1;
};
const BarSpec bar_specs[] = {
    {"strategies", "Ways to choose tokens", "strategy", "tok/s", "tokens_per_s", {"strategy"}},
    {"formats", "Answer speed by number format", "format", "tok/s of the answer", "tokens_per_s", {"format"}},
    {"formats-prefill",
     "Reading speed by number format",
     "format",
     "tok/s of the prompt",
     "prefill_tokens_per_s",
     {"format"}},
    {"formats-memory", "Weights by number format", "format", "MB", "weight_bytes", {"format"}, 1e6},
    {"cases", "Named cases", "case", "tok/s of the answer", "tokens_per_s", {"case"}},
    {"start", "Start to first token", "model", "s", "seconds", {"start"}},
    {"programs", "Answer speed", "model", "tok/s", "tokens_per_s", {"depth"}},
    {"programs-prefill", "Reading speed", "model", "tok/s", "prefill_tokens_per_s", {"prompt"}},
};

std::string key_text(const Json& row, const char* key) {
    std::string text = text_at(row, key);
    if (std::string_view(key) == "model" && text.ends_with(".gguf")) text.resize(text.size() - 5);
    if (std::string_view(key) == "threads" && !text.empty()) text += text == "1" ? " thread" : " threads";
    if (std::string_view(key) == "prompt" && !text.empty()) text += " tokens";
    if (std::string_view(key) == "depth" && !text.empty())
        text = text == "0" ? "empty context" : text + " of context";
    return text;
}

Rows rows_of(const Results& results, const Kinds& kinds, const char* x, const std::vector<Curve>& curves) {
    Rows rows;
    for (const Json& row : results.rows) {
        const bool has_number =
            std::ranges::any_of(curves, [&](const Curve& c) { return number_at(row, c.path).has_value(); });
        if (std::ranges::find(kinds, text_at(row, "kind")) != kinds.end() && !text_at(row, x).empty() &&
            has_number)
            rows.push_back(&row);
    }
    return rows;
}

// What tells these rows apart, but for what is on the axis.
std::vector<const char*> telling_keys(const Rows& rows, std::string_view axis, bool lengths_too = false) {
    std::vector<const char*> keys;
    for (const char* key : {"program", "model", "device", "format", "threads", "prompt", "depth"}) {
        const std::string_view name = key;
        if (!lengths_too && (name == "prompt" || name == "depth")) continue;
        std::set<std::string> values;
        for (const Json* row : rows) values.insert(key_text(*row, key));
        if (values.size() > 1 && key != axis) keys.push_back(key);
    }
    return keys;
}

std::string name_of(const Json& row, const std::vector<const char*>& keys, const std::string& curve) {
    std::string name;
    const auto add = [&](const std::string& text) {
        if (!text.empty()) name += (name.empty() ? "" : ", ") + text;
    };
    for (const char* key : keys) add(key_text(row, key));
    add(curve);
    return name;
}

double median(std::vector<double> v) {
    std::ranges::sort(v);
    return v.size() % 2 == 1 ? v[v.size() / 2] : (v[v.size() / 2 - 1] + v[v.size() / 2]) / 2;
}

// Of one place: the medians of measurements, and how far they went.
struct Point {
    std::vector<double> medians = {}, all = {};
    void add(const Json& row, const std::string& path, double scale) {
        const auto v = number_at(row, path);
        if (!v) return;
        medians.push_back(*v / scale);
        all.push_back(*v / scale);
        for (const char* end : {".min", ".max"}) {
            if (const auto e = number_at(row, path + end)) all.push_back(*e / scale);
        }
    }
};

// In the order in which names came up.
using NamedPoints = std::vector<std::pair<std::string, std::map<double, Point>>>;
std::map<double, Point>& points_of(NamedPoints& all, const std::string& name) {
    for (auto& [n, points] : all) {
        if (n == name) return points;
    }
    return all.emplace_back(name, std::map<double, Point>{}).second;
}

PlotSeries series_of(const std::string& name, const std::map<double, Point>& points) {
    PlotSeries s{.name = name};
    for (const auto& [x, p] : points) {
        if (p.medians.empty()) continue;
        s.x.push_back(x);
        s.y.push_back(median(p.medians));
        s.low.push_back(std::ranges::min(p.all));
        s.high.push_back(std::ranges::max(p.all));
    }
    return s;
}

void add_line_plot(const LineSpec& spec, const Rows& rows, const std::string& of, std::vector<Plot>& out) {
    const auto keys = telling_keys(rows, spec.x, std::string_view(spec.x) == "threads");
    NamedPoints points;
    for (const Json* row : rows) {
        for (const Curve& c : spec.curves) {
            if (!number_at(*row, c.path)) continue;
            points_of(points, name_of(*row, keys, c.name))[*number_at(*row, spec.x)].add(*row, c.path,
                                                                                         spec.scale);
        }
    }
    Plot plot{.id = spec.id,
              .title = spec.title,
              .x_title = spec.x_title,
              .y_title = spec.y_title,
              .log_x = spec.log_x,
              .log_y = spec.log_y};
    if (!of.empty()) {
        plot.id += "-" + of;
        plot.title += ", " + of;
    }
    bool has_line = false;
    for (const auto& [name, at] : points) {
        plot.series.push_back(series_of(name, at));
        has_line = has_line || plot.series.back().x.size() > 1;
    }
    if (has_line) out.push_back(std::move(plot));
}

// Many models with several lines each have a plot of their own.
void add_line_plots(const LineSpec& spec, const Results& results, std::vector<Plot>& out) {
    const Rows rows = rows_of(results, spec.kinds, spec.x, spec.curves);
    std::map<std::string, Rows> by_model;
    std::set<std::string> names;
    const auto keys = telling_keys(rows, spec.x, std::string_view(spec.x) == "threads");
    for (const Json* row : rows) {
        by_model[key_text(*row, "model")].push_back(row);
        names.insert(name_of(*row, keys, ""));
    }
    if (by_model.size() < 2 || names.size() * spec.curves.size() <= 6)
        return add_line_plot(spec, rows, "", out);
    for (const auto& [model, of] : by_model) add_line_plot(spec, of, model, out);
}

void add_bar_plot(const BarSpec& spec, const Rows& rows, const std::string& of, std::vector<Plot>& out) {
    const auto keys = telling_keys(rows, spec.category);
    Plot plot{.id = spec.id, .title = spec.title, .y_title = spec.y_title};
    if (!of.empty()) {
        plot.id += "-" + of;
        plot.title += ", " + of;
    }
    NamedPoints points;
    for (const Json* row : rows) {
        const std::string category = key_text(*row, spec.category);
        const auto at = std::ranges::find(plot.categories, category) - plot.categories.begin();
        if (at == std::ssize(plot.categories)) plot.categories.push_back(category);
        points_of(points, name_of(*row, keys, ""))[static_cast<double>(at)].add(*row, spec.path, spec.scale);
    }
    for (const auto& [name, at] : points) {
        PlotSeries s{.name = name};
        s.y.assign(plot.categories.size(), NAN);
        for (const auto& [c, p] : at) s.y[static_cast<size_t>(c)] = median(p.medians);
        plot.series.push_back(std::move(s));
    }
    if (!plot.categories.empty()) out.push_back(std::move(plot));
}

// Programs are compared at the same threads and lengths.
void add_bar_plots(const BarSpec& spec, const Results& results, std::vector<Plot>& out) {
    Rows rows = rows_of(results, spec.kinds, spec.category, {{spec.path, ""}});
    if (!std::string_view(spec.id).starts_with("programs")) return add_bar_plot(spec, rows, "", out);
    std::erase_if(rows, [](const Json* r) { return text_at(*r, "program").empty(); });
    auto keys = telling_keys(rows, "", true);
    std::erase_if(keys, [](std::string_view k) {
        return k == "program" || k == "model" || k == "device" || k == "format";
    });
    std::vector<std::pair<std::string, Rows>> groups;
    for (const Json* row : rows) {
        const std::string name = name_of(*row, keys, "");
        auto group = std::ranges::find(groups, name, &std::pair<std::string, Rows>::first);
        if (group == groups.end()) group = groups.insert(group, {name, {}});
        group->second.push_back(row);
    }
    for (const auto& [name, of] : groups) add_bar_plot(spec, of, name, out);
}

// The longest answer of each series, in pieces of time.
void add_over_time(const Results& results, std::vector<Plot>& out) {
    std::vector<std::pair<std::string, const Json*>> longest;
    Rows rows;
    for (const Json& row : results.rows) {
        if (row.contains("over_time")) rows.push_back(&row);
    }
    const auto keys = telling_keys(rows, "depth");
    for (const Json* row : rows) {
        const std::string name = name_of(*row, keys, "");
        const auto best = std::ranges::find(longest, name, &std::pair<std::string, const Json*>::first);
        if (best == longest.end()) {
            longest.emplace_back(name, row);
        } else if (number_at(*row, "answer") > number_at(*best->second, "answer")) {
            best->second = row;
        }
    }
    Plot plot{.id = "speed-over-time",
              .title = "Speed while an answer is written",
              .x_title = "s",
              .y_title = "tok/s"};
    for (const auto& [name, row] : longest) {
        PlotSeries s{.name = name, .points = false};
        for (const Json& p : (*row)["over_time"]) {
            s.x.push_back(p.at(0));
            s.y.push_back(p.at(1));
        }
        plot.series.push_back(std::move(s));
    }
    if (!plot.series.empty()) out.push_back(std::move(plot));
}

// Each op of a phase by the arithmetic that it does with a byte; the roof is the machine's.
void add_rooflines(const Results& results, std::vector<Plot>& out) {
    std::map<std::string, Rows> phases;
    const auto whole = [](const Json& r) { return !r.value("part_of_fused_op", false); };
    Rows all;
    for (const Json& r : results.ops) all.push_back(&r);
    const auto keys = telling_keys(all, "");
    for (const Json& r : results.ops) {
        if (whole(r)) phases[name_of(r, keys, text_at(r, "phase"))].push_back(&r);
    }
    for (const auto& [name, rows] : phases) {
        Plot plot{.id = "roofline-" + name,
                  .title = "Roofline of the ops, " + name,
                  .x_title = "operations a byte",
                  .y_title = "billion operations a second",
                  .log_x = true,
                  .log_y = true};
        PlotSeries points{.line = false}, shares{};
        for (const Json* r : rows) {
            const auto flops = number_at(*r, "flops_per_s"), bytes = number_at(*r, "bytes_per_s");
            if (!flops || !bytes || *flops <= 0 || *bytes <= 0) continue;
            points.x.push_back(*flops / *bytes);
            points.y.push_back(*flops / 1e9);
            points.labels.push_back(r->value("share", 0.0) > 0.03 ? text_at(*r, "op") : "");
        }
        if (points.x.empty()) continue;
        const auto bytes = number_at(*rows.front(), "roof_bytes_per_s"),
                   flops = number_at(*rows.front(), "roof_flops_per_s");
        const double low = std::ranges::min(points.x) / 2, high = std::ranges::max(points.x) * 2;
        plot.series.push_back(std::move(points));
        if (bytes && flops) {
            const double knee = *flops / *bytes;
            PlotSeries roof{.name = "roof", .points = false};
            for (const double x : {low, knee, std::max(high, 2 * knee)}) {
                roof.x.push_back(x);
                roof.y.push_back(std::min(x * *bytes, *flops) / 1e9);
            }
            plot.series.push_back(std::move(roof));
        }
        out.push_back(std::move(plot));

        Plot bars{
            .id = "ops-" + name, .title = "Where the time goes, " + name, .y_title = "% of the time in ops"};
        std::map<std::string, double> sums;
        for (const Json* r : rows) sums[text_at(*r, "op")] += 100 * r->value("share", 0.0);
        std::vector<std::pair<double, std::string>> sorted;
        for (const auto& [op, share] : sums) sorted.emplace_back(-share, op);
        std::ranges::sort(sorted);
        for (const auto& [share, op] : sorted) {
            if (bars.categories.size() == 10 || -share < 0.1) break;
            bars.categories.push_back(op);
            shares.y.push_back(-share);
        }
        bars.series.push_back(std::move(shares));
        out.push_back(std::move(bars));
    }
}

}  // namespace

std::vector<Plot> make_plots(const Results& results) {
    std::vector<Plot> plots;
    for (const LineSpec& spec : line_specs) add_line_plots(spec, results, plots);
    add_over_time(results, plots);
    for (const BarSpec& spec : bar_specs) add_bar_plots(spec, results, plots);
    add_rooflines(results, plots);
    return plots;
}

}  // namespace smelt
