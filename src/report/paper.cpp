// Pages of A4 as SVG: text line by line, two plots in a row, tables in columns as wide as their texts.
#include <fmt/format.h>

#include <algorithm>

#include "report/page.h"

namespace smelt {

namespace {

constexpr double paper_width = 595, paper_height = 842, margin = 40, inner = paper_width - 2 * margin;

// Beginnings of at most so many units; words are cut where they must.
std::vector<std::string> folded(const std::string& text, double size, double most) {
    std::vector<std::string> lines;
    std::string rest = text;
    const auto fits = [&](const std::string& t) { return text_width(t, size) <= most; };
    while (!fits(rest)) {
        size_t n = rest.size();
        while (n > 1 && !fits(rest.substr(0, n))) --n;
        while (n > 1 && (rest[n] & 0xc0) == 0x80) --n;
        const size_t space = rest.rfind(' ', n);
        if (space != std::string::npos && space > n / 2) n = space;
        lines.push_back(rest.substr(0, n));
        rest.erase(0, rest.find_first_not_of(' ', n));
    }
    lines.push_back(rest);
    return lines;
}

class Paper {
 public:
    void line(const std::string& text, double size, const char* weight = "normal", double x = margin) {
        room(size * 1.4);
        put(x, y_ + size, size, weight, "start", text);
        y_ += size * 1.4;
    }
    void space(double points) { y_ += points; }

    void source(const Json& source) {
        for (const auto& [name, text] : lines_about(source)) {
            const auto lines = folded(text, 8.5, inner - 80);
            room(12 * static_cast<double>(lines.size()));
            put(margin, y_ + 8.5, 8.5, "bold", "start", name);
            for (const std::string& l : lines) {
                put(margin + 80, y_ + 8.5, 8.5, "normal", "start", l);
                y_ += 12;
            }
        }
        space(8);
    }

    void plots(const std::vector<Plot>& plots) {
        const double each = (inner - 12) / 2;
        for (size_t i = 0; i < plots.size(); i += 2) {
            double row = 0;
            for (size_t p = i; p < std::min(i + 2, plots.size()); ++p) {
                const Svg svg = draw_plot(plots[p]);
                row = std::max(row, svg.height * each / svg.width);
            }
            room(row);
            for (size_t p = i; p < std::min(i + 2, plots.size()); ++p) {
                const Svg svg = draw_plot(plots[p]);
                const std::string place =
                    fmt::format(" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"",
                                margin + static_cast<double>(p - i) * (each + 12), y_, each,
                                svg.height * each / svg.width);
                body_ += "<svg" + place + svg.text.substr(4);
            }
            y_ += row + 10;
        }
    }

    void table(const ReportTable& t) {
        std::vector<double> widths;
        double sum = 0;
        for (size_t c = 0; c < t.columns.size(); ++c) {
            double most = text_width(t.columns[c], 1);
            for (const auto& row : t.rows) most = std::max(most, text_width(row[c], 1));
            sum += widths.emplace_back(most + 1.2);
        }
        const double size = std::min(8.0, inner / sum);  // as large as the page is wide
        room(20 + size * 3);
        line(t.title, 11, "bold");
        row(t.columns, widths, size, "bold");
        for (const auto& r : t.rows) row(r, widths, size, "normal");
        space(10);
    }

    std::vector<Svg> pages() {
        end_page();
        return std::move(pages_);
    }

 private:
    void row(const std::vector<std::string>& cells, const std::vector<double>& widths, double size,
             const char* weight) {
        room(size * 1.5);
        double x = margin;
        for (size_t c = 0; c < cells.size(); ++c) {
            x += widths[c] * size;
            put(x - size, y_ + size, size, weight, "end", cells[c]);
        }
        y_ += size * 1.5;
        body_ += fmt::format("<path d=\"M{} {:.1f}H{}\" stroke=\"#ddd\" stroke-width=\"0.5\"/>\n", margin,
                             y_ - size * 0.1, paper_width - margin);
    }
    void put(double x, double y, double size, const char* weight, const char* anchor,
             const std::string& text) {
        body_ += fmt::format(
            "<text x=\"{:.1f}\" y=\"{:.1f}\" font-size=\"{:.2f}\" font-weight=\"{}\" "
            "text-anchor=\"{}\">{}</text>\n",
            x, y, size, weight, anchor, xml_text(text));
    }
    void room(double points) {
        if (y_ + points > paper_height - margin) end_page();
    }
    void end_page() {
        if (body_.empty()) return;
        put(paper_width / 2, paper_height - 20, 8, "normal", "middle", std::to_string(pages_.size() + 1));
        pages_.push_back({fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" "
                                      "font-family=\"Helvetica Neue,Arial,DejaVu Sans,sans-serif\" "
                                      "fill=\"#222\"><style>{2}</style>\n{3}</svg>\n",
                                      paper_width, paper_height, plot_style(), body_),
                          paper_width, paper_height});
        body_.clear();
        y_ = margin;
    }

    std::vector<Svg> pages_;
    std::string body_;
    double y_ = margin;
};

}  // namespace

std::vector<Svg> paper_pages(const ReportPage& page) {
    Paper paper;
    paper.line(page.title, 18, "bold");
    paper.line("Medians; shades and ranges go from the worst to the best run.", 8.5);
    paper.space(8);
    for (const Json& source : page.results.sources) paper.source(source);
    paper.plots(page.plots);
    for (const ReportTable& t : page.tables) paper.table(t);
    for (const Json& s : page.results.skipped) {
        paper.line(fmt::format("Not measured: {}: {}", text_at(s, "case"), text_at(s, "reason")), 7);
    }
    return paper.pages();
}

}  // namespace smelt
