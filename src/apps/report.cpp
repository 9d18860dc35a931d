// smelt report: results of measurements as a page with plots, as pictures and on paper.
#include <fmt/format.h>

#include <filesystem>

#include "apps/verbs.h"
#include "base/atomic_file.h"
#include "base/error.h"
#include "base/log.h"
#include "report/page.h"
#include "report/pictures.h"
#include "report/plots.h"
#include "report/tables.h"

namespace smelt {

namespace {

namespace fs = std::filesystem;

struct ReportOptions {
    std::vector<std::string> results;
    std::string folder, title = "smelt, measured";
};

void write(const fs::path& path, std::string_view bytes) {
    AtomicFile file(path);
    file.write(bytes);
    file.commit();
}

// Names of files and of parts of the page: letters, digits and dashes.
std::string plain(std::string name) {
    for (char& c : name) {
        const bool keeps =
            (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.';
        if (!keeps) c = '-';
    }
    return name;
}

void make_report(const ReportOptions& o) {
    const Results results = read_results({o.results.begin(), o.results.end()});
    ReportPage page{o.title, results, make_plots(results), make_tables(results)};
    for (Plot& p : page.plots) p.id = plain(p.id);
    if (page.plots.empty() && page.tables.empty()) {
        throw Error("{}: expected measurements, found none in it", o.results.front());
    }
    const fs::path folder = o.folder;
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) throw Error("{}: cannot create: {}", o.folder, error.message());

    write(folder / "report.html", html_page(page));
    std::string missing;
    const auto maker = open_picture_maker(missing);
    for (const Plot& plot : page.plots) {
        const Svg svg = draw_plot(plot);
        write(folder / (plot.id + ".svg"), with_style(svg));
        if (maker) write(folder / (plot.id + ".png"), maker->png(with_style(svg), svg.width, svg.height, 3));
    }
    if (maker) {
        write(folder / "report.pdf", maker->pdf(paper_pages(page)));
    } else {
        spdlog::warn("no PNG and no PDF: {}", missing);
    }
    fmt::print("{}: {} plots, {} tables\n", (folder / "report.html").string(), page.plots.size(),
               page.tables.size());
}

}  // namespace

Verb add_report(CLI::App& smelt) {
    auto o = std::make_shared<ReportOptions>();
    CLI::App* verb = smelt.add_subcommand("report", "A page with plots from results of bench");
    verb->add_option(
            "RESULT", o->results,
            "What bench wrote with --suite, --compare or another --json, or a CSV of bench/compare.py")
        ->required()
        ->check(CLI::ExistingFile)
        ->type_name("FILE");
    verb->add_option("-o,--output", o->folder, "Where report.html, report.pdf and the pictures go")
        ->required()
        ->type_name("DIR");
    verb->add_option("--title", o->title, "What the page is called")->capture_default_str();
    verb->footer(
        "The page is one file that loads nothing from elsewhere. PNG and PDF need librsvg.\n"
        "Examples:\n"
        "  smelt bench models/demo-23m --suite --quick --json > result.json\n"
        "  smelt report result.json -o report\n"
        "  smelt report bench/results/cpu_epyc_2_cores.csv -o report");
    return {verb, [o] { make_report(*o); }};
}

}  // namespace smelt
