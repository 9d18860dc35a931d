// HTML by hand: a head with the style, then sections.
#include "report/page.h"

#include <fmt/format.h>

#include "base/units.h"

namespace smelt {

namespace {

constexpr const char* page_style = R"(
:root { color-scheme: light dark; --ink: #222; --soft: #666; --paper: #fff; --line: #ddd; --card: #fafafa; }
@media (prefers-color-scheme: dark) {
:root { --ink: #ddd; --soft: #999; --paper: #121212; --line: #333; --card: #181818; }
}
* { box-sizing: border-box; }
body { font: 15px/1.5 "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; color: var(--ink); background: var(--paper);
       max-width: 1180px; margin: 0 auto; padding: 16px; }
h1 { font-size: 26px; margin: 8px 0 0; } h2 { font-size: 19px; margin: 36px 0 10px; }
p.sub { color: var(--soft); margin: 2px 0 18px; }
.plots { columns: 2 440px; column-gap: 14px; }
figure { margin: 0 0 14px; break-inside: avoid; padding: 8px; background: var(--card); border: 1px solid var(--line); border-radius: 6px; }
figure svg { width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 6px; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 10px; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; background: var(--card); } td.word, th.word { text-align: left; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 14px; margin: 0; font-size: 14px; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
section.source { border: 1px solid var(--line); border-radius: 6px; background: var(--card); padding: 12px; margin-bottom: 10px; }
details { margin: 6px 0; } summary { cursor: pointer; } blockquote { margin: 6px 0 6px 12px; padding-left: 10px;
border-left: 3px solid var(--line); white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 600px) { body { padding: 10px; } figure { padding: 4px; } dl { grid-template-columns: 1fr; } dd { margin-bottom: 5px; } }
)";

std::string table_html(const ReportTable& t) {
    const auto is_word = [](const std::string& cell) {
        return !cell.empty() && cell.find_first_not_of("0123456789.,-+e–() ") != std::string::npos;
    };
    std::vector<bool> words(t.columns.size());
    for (size_t c = 0; c < words.size(); ++c) {
        for (const auto& row : t.rows) words[c] = words[c] || is_word(row[c]);
    }
    const auto cell = [&](const char* tag, size_t c, const std::string& text) {
        return fmt::format("<{0}{1}>{2}</{0}>", tag, words[c] ? " class=\"word\"" : "", xml_text(text));
    };
    std::string out = fmt::format("<h2>{}</h2>\n<div class=\"wide\"><table>\n<tr>", xml_text(t.title));
    for (size_t c = 0; c < words.size(); ++c) out += cell("th", c, t.columns[c]);
    out += "</tr>\n";
    for (const auto& row : t.rows) {
        out += "<tr>";
        for (size_t c = 0; c < words.size(); ++c) out += cell("td", c, row[c]);
        out += "</tr>\n";
    }
    return out + "</table></div>\n";
}

std::string source_html(const Json& source) {
    std::string out = "<section class=\"source\"><dl>\n";
    for (const auto& [name, text] : lines_about(source)) {
        out += fmt::format("<dt>{}</dt><dd>{}</dd>\n", xml_text(name), xml_text(text));
    }
    return out + "</dl></section>\n";
}

// What models said in the named cases.
std::string answers_html(const Results& results) {
    std::string out;
    for (const Json& row : results.rows) {
        if (text_at(row, "text").empty()) continue;
        out += fmt::format(
            "<details><summary>{}, {} on {}</summary>\n<blockquote><b>{}</b></blockquote>\n"
            "<blockquote>{}</blockquote></details>\n",
            xml_text(text_at(row, "case")), xml_text(text_at(row, "model")), xml_text(text_at(row, "device")),
            xml_text(text_at(row, "question")), xml_text(text_at(row, "text")));
    }
    return out.empty() ? out : "<h2>Answers</h2>\n" + out;
}

std::string skipped_html(const Results& results) {
    std::string out;
    for (const Json& s : results.skipped) {
        out += fmt::format("<li>{}: {}</li>\n", xml_text(text_at(s, "case")), xml_text(text_at(s, "reason")));
    }
    return out.empty() ? out : "<h2>Not measured</h2>\n<ul>\n" + out + "</ul>\n";
}

}  // namespace

std::vector<std::pair<std::string, std::string>> lines_about(const Json& source) {
    std::vector<std::pair<std::string, std::string>> lines;
    const auto add = [&](const char* name, const std::string& text) {
        if (!text.empty()) lines.emplace_back(name, text);
    };
    add("result", text_at(source, "file"));
    if (const auto m = source.find("machine"); m != source.end() && m->is_object()) {
        const auto cores = number_at(*m, "physical_cores"), memory = number_at(*m, "memory_bytes"),
                   rate = number_at(*m, "read_bytes_per_s");
        add("processor", fmt::format("{}{}", text_at(*m, "processor"),
                                     cores ? fmt::format(", {:.0f} cores", *cores) : ""));
        if (memory) {
            add("memory",
                bytes_text(static_cast<uint64_t>(*memory)) +
                    (rate ? fmt::format(", {}/s read", bytes_text(static_cast<uint64_t>(*rate))) : ""));
        }
        add("system", text_at(*m, "system"));
        add("GPU", text_at(*m, "gpu"));
    }
    for (const Json& d : source.value("devices", Json::array())) {
        add("device", text_at(d, "name") + ": " + text_at(d, "description"));
    }
    for (const Json& m : source.value("models", Json::array())) {
        const auto bytes = number_at(m, "weight_bytes"), weights = number_at(m, "parameters");
        add("model",
            fmt::format("{}, {}{}{}", text_at(m, "name"), text_at(m, "architecture"),
                        weights ? ", " + count_text(static_cast<uint64_t>(*weights)) + " weights" : "",
                        bytes ? ", " + bytes_text(static_cast<uint64_t>(*bytes)) : ""));
    }
    add("command", text_at(source, "command"));
    add("smelt", text_at(source, "smelt"));
    const auto seconds = number_at(source, "seconds");
    add("measured", text_at(source, "started") + (seconds ? fmt::format(", in {:.0f} s", *seconds) : ""));
    return lines;
}

std::string html_page(const ReportPage& page) {
    std::string out = fmt::format(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>{0}</title>\n"
        "<style>{1}{2}</style></head>\n<body>\n<h1>{0}</h1>\n"
        "<p class=\"sub\">Medians; shades and ranges go from the worst to the best run.</p>\n",
        xml_text(page.title), page_style, plot_style());
    for (const Json& source : page.results.sources) out += source_html(source);
    out += "<h2>Plots</h2>\n<div class=\"plots\">\n";
    for (const Plot& plot : page.plots) {
        out += fmt::format("<figure id=\"{}\">{}</figure>\n", xml_text(plot.id), draw_plot(plot).text);
    }
    out += "</div>\n";
    for (const ReportTable& t : page.tables) out += table_html(t);
    return out + answers_html(page.results) + skipped_html(page.results) + "</body></html>\n";
}

}  // namespace smelt
