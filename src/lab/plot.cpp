// 720 × 440 units; lines for whole powers of ten, and for 2 and 5 times those.
#include "lab/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace smelt {

namespace {

constexpr double width = 720, height = 440, left = 70, right = 20, top = 40, bottom = 50;
constexpr const char* colours[] = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                                   "#ff7f0e", "#8c564b", "#17becf", "#7f7f7f"};

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
    }
    return out;
}

struct Axes {
    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    void include(double x, double y) {
        x_low = std::min(x_low, x);
        x_high = std::max(x_high, x);
        y_low = std::min(y_low, y);
        y_high = std::max(y_high, y);
    }
    void widen() {
        const double more = std::max((x_high - x_low) * 0.06, 1e-3);
        x_low -= more;
        x_high += more;
        y_low /= 1.3;
        y_high *= 1.3;
    }
    double x(double v) const { return left + (v - x_low) / (x_high - x_low) * (width - left - right); }
    double y(double v) const {
        return height - bottom - std::log(v / y_low) / std::log(y_high / y_low) * (height - top - bottom);
    }
};

std::string text(double x, double y, const char* anchor, const std::string& words, const char* more = "") {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                       escaped(words));
}

std::string line(double x1, double y1, double x2, double y2) {
    return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#ddd\"/>\n",
                       x1, y1, x2, y2);
}

// A step of 1, 2 or 5 times a power of ten that cuts the range in about six.
double step_of(double range) {
    const double power = std::pow(10, std::floor(std::log10(range / 6)));
    for (const double m : {1.0, 2.0, 5.0}) {
        if (range / (m * power) <= 7) return m * power;
    }
    return 10 * power;
}

std::string grid(const Axes& a) {
    std::string out;
    const double step = step_of(a.x_high - a.x_low);
    for (double v = std::ceil(a.x_low / step) * step; v <= a.x_high; v += step) {
        out += line(a.x(v), top, a.x(v), height - bottom);
        out += text(a.x(v), height - bottom + 16, "middle", fmt::format("{:.4g}", v));
    }
    for (double power = std::pow(10, std::floor(std::log10(a.y_low))); power <= a.y_high; power *= 10) {
        for (const double m : {1.0, 2.0, 5.0}) {
            const double v = m * power;
            if (v < a.y_low || v > a.y_high) continue;
            out += line(left, a.y(v), width - right, a.y(v));
            out += text(left - 6, a.y(v) + 4, "end", fmt::format("{:.4g}", v));
        }
    }
    return out;
}

std::string curve(const PlotSeries& s, const Axes& a, const char* colour) {
    std::string out, path;
    for (size_t i = 0; i < s.x.size(); ++i) {
        if (!(s.y[i] > 0)) continue;
        const double x = a.x(s.x[i]), y = a.y(s.y[i]);
        path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
        if (s.points)
            out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"/>\n", x, y, colour);
        if (s.names_points && i < s.labels.size()) out += text(x + 6, y - 5, "start", s.labels[i]);
    }
    if (s.line && !path.empty()) {
        out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\n",
                           path, colour);
    }
    return out;
}

}  // namespace

std::string draw_svg(const Plot& plot) {
    Axes axes;
    for (const PlotSeries& s : plot.series) {
        for (size_t i = 0; i < s.x.size(); ++i) {
            if (s.y[i] > 0) axes.include(s.x[i], s.y[i]);
        }
    }
    if (!(axes.x_low <= axes.x_high)) axes.include(1, 1);
    axes.widen();
    std::string out = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" "
        "font-size=\"11\">\n<rect width=\"{}\" height=\"{}\" fill=\"white\"/>\n",
        width, height, width, height);
    out += text(width / 2, 22, "middle", plot.title, " font-size=\"14\"") + grid(axes);
    out += text(width / 2, height - 12, "middle", plot.x_title);
    out += text(18, height / 2, "middle", plot.y_title,
                fmt::format(" transform=\"rotate(-90 18 {})\"", height / 2).c_str());
    for (size_t i = 0; i < plot.series.size(); ++i) {
        const PlotSeries& s = plot.series[i];
        const char* colour = colours[i % std::size(colours)];
        out += curve(s, axes, colour);
        if (s.name.empty()) continue;
        const double y = top + 14 + 15 * static_cast<double>(i);
        out += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"10\" height=\"10\" fill=\"{}\"/>\n",
                           width - right - 190, y - 9, colour);
        out += text(width - right - 174, y, "start", s.name);
    }
    return out + "</svg>\n";
}

}  // namespace smelt
