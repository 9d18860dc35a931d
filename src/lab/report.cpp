// The CSV tables are what a report is; Markdown and plots are made of them anew each time.
#include "lab/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/mapped_file.h"
#include "base/number.h"
#include "report/csv.h"
#include "report/plot.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

using Row = CsvRow;
using Table = CsvTable;

const Row model_columns = {
    "model", "bytes",      "bits_per_weight",      "kl_mean", "kl_error",  "kl_p99", "top1",
    "top5",  "perplexity", "reference_perplexity", "tokens",  "reference", "text"};
const Row position_columns = {"model", "first", "last", "kl_mean", "kl_p99", "top1"};
const Row tensor_columns = {"model", "tensor", "format", "relative_error", "largest_error"};

Table read_csv(const fs::path& path, const Row& columns) {
    if (!fs::exists(path)) return {columns};
    Table table = parse_csv(MappedFile(path).text());
    const auto whole = [&](const Row& r) { return r.size() == columns.size(); };
    if (table.empty() || table.front() != columns || !std::ranges::all_of(table, whole)) {
        throw Error("{}: expected the table of a report of smelt eval, found other columns", path.string());
    }
    return table;
}

void write_text(const fs::path& path, std::string_view text) {
    AtomicFile file(path);
    file.write(text);
    file.commit();
}

double number_of(const std::string& cell, const fs::path& source) {
    const auto v = parse_real(cell);
    if (!v) throw Error("{}: expected a number, found {}", source.string(), cell);
    return *v;
}

std::string number(double v) {
    return fmt::format("{:.6g}", v);
}

struct Tables {
    Table models, positions, tensors;
};

void replace_rows(Table& table, const std::string& model, Table rows) {
    table.erase(std::remove_if(table.begin() + 1, table.end(), [&](const Row& r) { return r[0] == model; }),
                table.end());
    table.insert(table.end(), rows.begin(), rows.end());
}

void add_entry(Tables& t, const ReportEntry& e) {
    const ScoreSummary& s = e.scores;
    const double bits =
        8 * static_cast<double>(e.bytes) / static_cast<double>(std::max<uint64_t>(e.n_weights, 1));
    replace_rows(t.models, e.model,
                 {{e.model, std::to_string(e.bytes), number(bits), number(s.kl_mean), number(s.kl_error),
                   number(s.kl_p99), number(s.top1), number(s.top5), number(s.perplexity),
                   number(s.reference_perplexity), std::to_string(s.n), e.reference, e.text}});
    Table positions, tensors;
    for (const ReportPart& p : e.parts) {
        positions.push_back({e.model, std::to_string(p.first), std::to_string(p.last),
                             number(p.scores.kl_mean), number(p.scores.kl_p99), number(p.scores.top1)});
    }
    for (const TensorError& x : e.tensors) {
        tensors.push_back(
            {e.model, x.name, std::string(to_string(x.format)), number(x.relative), number(x.largest)});
    }
    replace_rows(t.positions, e.model, std::move(positions));
    replace_rows(t.tensors, e.model, std::move(tensors));
}

std::string short_name(const std::string& model) {
    const fs::path path(model);
    return (path.has_filename() ? path : path.parent_path()).filename().stem().string();
}

// Models by size; those that no smaller or equal one beats are the front.
struct Judged {
    Row row;
    double bytes, bits, kl;
    bool front = false;
};
std::vector<Judged> models_of(const Table& table, const fs::path& source) {
    std::vector<Judged> models;
    for (size_t i = 1; i < table.size(); ++i) {
        models.push_back({table[i], number_of(table[i][1], source), number_of(table[i][2], source),
                          number_of(table[i][3], source)});
    }
    std::ranges::stable_sort(models, [](const Judged& a, const Judged& b) {
        return a.bytes < b.bytes || (a.bytes == b.bytes && a.kl < b.kl);
    });
    double best = INFINITY;
    for (Judged& m : models) {
        m.front = m.kl < best;
        best = std::min(best, m.kl);
    }
    return models;
}

std::string kl_plot(const std::vector<Judged>& models) {
    PlotSeries front{.name = "Pareto front"}, others{.name = "others", .line = false};
    for (const Judged& m : models) {
        PlotSeries& s = m.front ? front : others;
        s.x.push_back(m.bits);
        s.y.push_back(m.kl);
        s.labels.push_back(short_name(m.row[0]));
    }
    return with_style(draw_plot({.id = "kl",
                                 .title = "KL divergence from the reference",
                                 .x_title = "bits a weight, of the whole file",
                                 .y_title = "mean KL",
                                 .series = {std::move(front), std::move(others)},
                                 .log_y = true}));
}

std::string position_plot(const Table& table, const fs::path& source) {
    std::map<std::string, PlotSeries> series;
    for (size_t i = 1; i < table.size(); ++i) {
        PlotSeries& s = series[table[i][0]];
        s.name = short_name(table[i][0]);
        s.x.push_back((number_of(table[i][1], source) + number_of(table[i][2], source)) / 2);
        s.y.push_back(number_of(table[i][3], source));
    }
    Plot plot{.id = "positions",
              .title = "KL divergence by position",
              .x_title = "position in the window",
              .y_title = "mean KL",
              .log_y = true};
    for (auto& [name, s] : series) plot.series.push_back(std::move(s));
    return with_style(draw_plot(plot));
}

// Root of the mean square of the tensors' relative errors, layer by layer; the last row is what is in no
// layer.
std::string layer_table(const Table& tensors, const std::vector<Judged>& models, const fs::path& source) {
    struct Sum {
        double squares = 0;
        int n = 0;
    };
    std::map<int, std::map<std::string, Sum>> layers;
    for (size_t i = 1; i < tensors.size(); ++i) {
        const std::string& name = tensors[i][1];
        const size_t end = name.find('.', 4);
        const bool in_layer = name.starts_with("blk.") && end != std::string::npos;
        const int layer = in_layer ? static_cast<int>(number_of(name.substr(4, end - 4), source)) : INT32_MAX;
        const double error = number_of(tensors[i][3], source);
        Sum& s = layers[layer][tensors[i][0]];
        s.squares += error * error;
        ++s.n;
    }
    if (layers.empty()) return "";
    std::string out = "\n## Relative error of the weights, by layer\n\n| layer |";
    for (const Judged& m : models) out += fmt::format(" {} |", short_name(m.row[0]));
    out += "\n|---|";
    for (size_t i = 0; i < models.size(); ++i) out += "---|";
    for (const auto& [layer, sums] : layers) {
        out += layer == INT32_MAX ? std::string("\n| others |") : fmt::format("\n| {} |", layer);
        for (const Judged& m : models) {
            const auto s = sums.find(m.row[0]);
            out += s == sums.end() ? std::string(" |")
                                   : fmt::format(" {:.4f} |", std::sqrt(s->second.squares / s->second.n));
        }
    }
    return out + "\n";
}

std::string markdown(const Tables& t, const std::vector<Judged>& models, const fs::path& folder) {
    const Row& last = t.models.back();
    std::string out = fmt::format(
        "# Quantized models against {}\n\nText: {}, {} tokens scored. Models on the Pareto front are bold. "
        "Made by "
        "`smelt eval MODEL --reference {} --text {} --report {}`, model by model.\n\n",
        last[11], last[12], last[10], last[11], last[12], folder.string());
    out +=
        "| model | bytes | bits a weight | KL | p99 KL | same top-1 | top-5 | perplexity "
        "|\n|---|---|---|---|---|---|---|---|\n";
    for (const Judged& m : models) {
        const auto percent = [&](size_t i) { return 100 * number_of(m.row[i], folder / "models.csv"); };
        const char* bold = m.front ? "**" : "";
        out += fmt::format("| {}{}{} | {} | {} | {} | {} | {:.1f} % | {:.1f} % | {} |\n", bold, m.row[0],
                           bold, m.row[1], m.row[2], m.row[3], m.row[5], percent(6), percent(7), m.row[8]);
    }
    out += "\n![KL over bits a weight](kl.svg)\n\n![KL by position](positions.svg)\n";
    return out + layer_table(t.tensors, models, folder / "tensors.csv");
}

}  // namespace

void add_to_report(const fs::path& folder, const ReportEntry& entry) {
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw Error("{}: cannot create: {}", folder.string(), error.message());
    const fs::path models = folder / "models.csv", positions = folder / "positions.csv",
                   tensors = folder / "tensors.csv";
    Tables t{read_csv(models, model_columns), read_csv(positions, position_columns),
             read_csv(tensors, tensor_columns)};
    for (size_t i = 1; i < t.models.size(); ++i) {
        const Row& row = t.models[i];
        if (row[11] != entry.reference || row[12] != entry.text ||
            row[10] != std::to_string(entry.scores.n)) {
            throw Error(
                "{}: expected reference {} and text {} ({} tokens), as the report has; found {} and {} ({})",
                folder.string(), row[11], row[12], row[10], entry.reference, entry.text, entry.scores.n);
        }
    }
    add_entry(t, entry);
    const std::vector<Judged> sorted = models_of(t.models, models);
    write_text(models, csv_text(t.models));
    write_text(positions, csv_text(t.positions));
    write_text(tensors, csv_text(t.tensors));
    write_text(folder / "kl.svg", kl_plot(sorted));
    write_text(folder / "positions.svg", position_plot(t.positions, positions));
    write_text(folder / "report.md", markdown(t, sorted, folder));
}

}  // namespace smelt
