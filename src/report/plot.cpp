// 400 units wide: 11 units of text stay readable on a phone, where a picture has the width of the screen.
#include "report/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace smelt {

namespace {

constexpr double width = 400, line_height = 264, font = 11;
constexpr size_t n_colours = 8;
constexpr const char* dashes[] = {"", "6 3", "2 2", "9 3 2 3", "4 2 1 2", "12 4", "1 3", "7 2 7 5"};

std::string shortened(const std::string& text, double most) {
    if (text_width(text, font) <= most) return text;
    size_t n = std::min(text.size(), static_cast<size_t>(std::max(most / text_width("x", font), 2.0)) - 1);
    while (n > 0 && (text[n] & 0xc0) == 0x80) --n;
    return text.substr(0, n) + "…";
}

std::string label(double x, double y, const char* anchor, std::string_view words, const char* more = "") {
    return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y, anchor, more,
                       xml_text(words));
}

std::string stroke(const char* kind, double x1, double y1, double x2, double y2) {
    return fmt::format("<path class=\"{}\" d=\"M{:.1f} {:.1f}L{:.1f} {:.1f}\"/>\n", kind, x1, y1, x2, y2);
}

std::string number_text(double v) {
    const double a = std::abs(v);
    if (a >= 1e9) return fmt::format("{:.3g}G", v / 1e9);
    if (a >= 1e6) return fmt::format("{:.3g}M", v / 1e6);
    if (a >= 1e4) return fmt::format("{:.3g}k", v / 1e3);
    return a >= 100 ? fmt::format("{:.0f}", v) : fmt::format("{:.3g}", v);
}

// One direction of a picture.
class Axis {
 public:
    explicit Axis(bool log) : log_(log) {}

    bool shows(double v) const { return std::isfinite(v) && (!log_ || v > 0); }
    void include(double v) {
        if (!shows(v)) return;
        low_ = std::min(low_, v);
        high_ = std::max(high_, v);
    }
    void finish(bool from_zero, double share) {
        if (!(low_ <= high_)) low_ = high_ = 1;
        if (from_zero && !log_) low_ = std::min(low_, 0.0);
        if (log_) {
            const double more = std::max(std::pow(high_ / low_, share), 1.02);
            low_ /= more;
            high_ *= more;
        } else {
            const double more = std::max((high_ - low_) * share, std::abs(high_) * 1e-3 + 1e-9);
            if (!from_zero || low_ < 0) low_ -= more;
            high_ += more;
        }
    }
    void place(double from, double to) {
        from_ = from;
        to_ = to;
    }
    double at(double v) const {
        const double share = log_ ? std::log(v / low_) / std::log(high_ / low_) : (v - low_) / (high_ - low_);
        return from_ + share * (to_ - from_);
    }

    std::vector<double> ticks() const { return log_ ? log_ticks() : round_ticks(); }

 private:
    std::vector<double> round_ticks() const {
        const double power = std::pow(10, std::floor(std::log10((high_ - low_) / 5)));
        double step = 10 * power;
        for (const double m : {1.0, 2.0, 5.0}) {
            if ((high_ - low_) / (m * power) <= 6) {
                step = m * power;
                break;
            }
        }
        std::vector<double> ticks;
        const auto first = static_cast<int64_t>(std::ceil(low_ / step));
        for (int64_t i = first; static_cast<double>(i) * step <= high_; ++i) {
            ticks.push_back(static_cast<double>(i) * step);
        }
        return ticks;
    }
    std::vector<double> log_ticks() const {
        const double decades = std::log10(high_ / low_);
        if (decades < 0.5) return round_ticks();
        std::vector<double> ticks;
        for (double power = std::pow(10, std::floor(std::log10(low_))); power <= high_; power *= 10) {
            for (const double m : {1.0, 2.0, 5.0}) {
                if (m > 1 && decades > 3) continue;
                if (m * power >= low_ && m * power <= high_) ticks.push_back(m * power);
            }
        }
        return ticks.size() < 3 ? round_ticks() : ticks;
    }

    bool log_;
    double low_ = INFINITY, high_ = -INFINITY, from_ = 0, to_ = 0;
};

// Around a point, in a box of 7 units.
std::string marker(size_t kind, double x, double y) {
    const auto path = [&](const char* d) {
        return fmt::format("<path transform=\"translate({:.1f} {:.1f})\" d=\"{}\"/>\n", x, y, d);
    };
    switch (kind % n_colours) {
        case 0:
            return fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.3\"/>\n", x, y);
        case 1:
            return path("M-3-3H3V3H-3Z");
        case 2:
            return path("M0-4 4 3H-4Z");
        case 3:
            return path("M0-4.4 4 0 0 4.4-4 0Z");
        case 4:
            return path("M-3.5-3.5 3.5 3.5M-3.5 3.5 3.5-3.5");
        case 5:
            return path("M0 4 4-3H-4Z");
        case 6:
            return path("M-4 0H4M0-4V4");
        default:
            return path("M-3-3H3L-3 3H3Z");
    }
}

class LinePicture {
 public:
    explicit LinePicture(const Plot& plot) : plot_(plot), x_(plot.log_x), y_(plot.log_y) {
        for (const PlotSeries& s : plot.series) {
            for (size_t i = 0; i < s.x.size(); ++i) {
                if (!shows(s, i)) continue;
                x_.include(s.x[i]);
                y_.include(s.y[i]);
                x_values_.insert(s.x[i]);
                if (i < s.high.size()) y_.include(s.high[i]);
                if (i < s.low.size()) y_.include(s.low[i]);
                has_labels_ = has_labels_ || i < s.labels.size();
            }
        }
        x_.finish(false, 0.04);
        y_.finish(true, 0.06);
        double names = 0, numbers = 0;  // names are bold, and so wider
        for (const PlotSeries& s : plot.series) names = std::max(names, text_width(s.name, 1.12 * font));
        for (const double v : y_.ticks()) numbers = std::max(numbers, text_width(number_text(v), font));
        left_ = numbers + 12;
        right_ = width - 8 - (names > 0 ? std::min(names, 0.36 * width) + 10 : 6);
        x_.place(left_, right_);
        y_.place(bottom_, top_);
    }

    Svg draw() {
        std::string out = label(4, top_ - 10, "start", plot_.y_title);
        out += label((left_ + right_) / 2, line_height - 6, "middle", plot_.x_title) + grid();
        for (size_t i = 0; i < plot_.series.size(); ++i) out += curve(i);
        for (size_t i = 0; i < plot_.series.size(); ++i) out += point_labels(plot_.series[i]);
        return {out + names(), width, line_height};
    }

 private:
    bool shows(const PlotSeries& s, size_t i) const { return x_.shows(s.x[i]) && y_.shows(s.y[i]); }

    std::string grid() const {
        std::string out;
        for (const double v : y_.ticks()) {
            out += stroke("grid", left_, y_.at(v), right_, y_.at(v));
            out += label(left_ - 5, y_.at(v) + 4, "end", number_text(v));
        }
        // Where there are few values, they are better marks than round numbers.
        std::vector<double> ticks = x_.ticks();
        if (x_values_.size() <= 10 && !has_labels_) ticks.assign(x_values_.begin(), x_values_.end());
        double free = -INFINITY;
        for (const double v : ticks) {
            const double x = x_.at(v), half = text_width(number_text(v), font) / 2;
            out += stroke("axis", x, bottom_, x, bottom_ + 4);
            if (x - half < free) continue;
            out += label(x, bottom_ + 16, "middle", number_text(v));
            free = x + half + 4;
        }
        return out + stroke("axis", left_, bottom_, right_, bottom_);
    }

    std::string curve(size_t index) const {
        const PlotSeries& s = plot_.series[index];
        std::string path, marks, spread;
        for (size_t i = 0; i < s.x.size(); ++i) {
            if (!shows(s, i)) continue;
            const double x = x_.at(s.x[i]), y = y_.at(s.y[i]);
            path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", x, y);
            if (s.points) marks += marker(index, x, y);
            if (i < s.low.size() && i < s.high.size() && y_.shows(s.low[i])) {
                spread += stroke("spread", x, y_.at(s.low[i]), x, y_.at(s.high[i]));
            }
        }
        std::string out = fmt::format("<g class=\"s{}\" fill=\"currentColor\" stroke=\"currentColor\">\n",
                                      index % n_colours);
        if (s.line && !path.empty()) {
            out += fmt::format("<polyline fill=\"none\" stroke-width=\"1.7\"{} points=\"{}\"/>\n",
                               dash(index), path);
        }
        return out + spread + marks + "</g>\n";
    }

    static std::string dash(size_t index) {
        const char* pattern = dashes[index % std::size(dashes)];
        return *pattern == '\0' ? "" : fmt::format(" stroke-dasharray=\"{}\"", pattern);
    }

    struct Box {
        double x1, y1, x2, y2;
        bool meets(const Box& b) const { return x1 < b.x2 && b.x1 < x2 && y1 < b.y2 && b.y1 < y2; }
    };

    // Beside, over or under its point; a label that has no room is left out.
    std::string point_labels(const PlotSeries& s) {
        std::string out;
        for (size_t i = 0; i < std::min(s.labels.size(), s.x.size()); ++i) {
            if (!shows(s, i) || s.labels[i].empty()) continue;
            const double x = x_.at(s.x[i]), y = y_.at(s.y[i]), w = text_width(s.labels[i], font);
            const std::pair<double, double> places[] = {
                {x + 6, y + 4}, {x - 6 - w, y + 4}, {x - w / 2, y - 7}, {x - w / 2, y + 15}};
            for (const auto& [tx, ty] : places) {
                const Box box{tx, ty - 9, tx + w, ty + 2};
                const bool inside = box.x1 >= left_ && box.x2 <= width && box.y1 >= top_ && box.y2 <= bottom_;
                if (!inside || std::ranges::any_of(taken_, [&](const Box& b) { return b.meets(box); }))
                    continue;
                taken_.push_back(box);
                out += label(tx, ty, "start", s.labels[i], " class=\"small\"");
                break;
            }
        }
        return out;
    }

    // At the ends of the lines, pushed apart where they would meet.
    std::string names() const {
        struct Name {
            size_t series;
            double x, y, at;
        };
        std::vector<Name> names;
        for (size_t i = 0; i < plot_.series.size(); ++i) {
            const PlotSeries& s = plot_.series[i];
            for (size_t p = s.x.size(); !s.name.empty() && p-- > 0;) {
                if (!shows(s, p)) continue;
                names.push_back({i, x_.at(s.x[p]), y_.at(s.y[p]), y_.at(s.y[p])});
                break;
            }
        }
        std::ranges::stable_sort(names, {}, &Name::y);
        double free = top_;
        for (Name& n : names) free = (n.at = std::max(n.at, free)) + font + 2;
        double limit = bottom_;
        for (auto n = names.rbegin(); n != names.rend(); ++n)
            limit = (n->at = std::min(n->at, limit)) - font - 2;
        std::string out;
        for (const Name& n : names) {
            const std::string& name = plot_.series[n.series].name;
            out += fmt::format("<g class=\"s{}\" fill=\"currentColor\" stroke=\"none\">\n",
                               n.series % n_colours);
            if (std::abs(n.at - n.y) > 4 || n.x < right_ - 20) {
                out += stroke("leader", n.x + 5, n.y, right_ + 6, n.at);
            }
            out += label(right_ + 8, n.at + 4, "start", shortened(name, width - right_ - 10),
                         " class=\"name\"") +
                   "</g>\n";
        }
        return out;
    }

    const Plot& plot_;
    Axis x_, y_;
    std::set<double> x_values_;
    bool has_labels_ = false;
    std::vector<Box> taken_;
    double left_ = 0, right_ = 0, top_ = 44, bottom_ = line_height - 38;
};

Svg draw_bars(const Plot& plot) {
    constexpr double bar = 13, gap = 9, top = 44;
    Axis x(false);
    double names = 0, values = 0;
    for (const std::string& c : plot.categories) names = std::max(names, text_width(c, font));
    for (const PlotSeries& s : plot.series) {
        for (const double v : s.y) x.include(v);
        values = std::max(values, text_width(s.name, font));
    }
    x.finish(true, 0.02);
    const double left = std::min(names, 0.34 * width) + 12;
    const bool named = plot.series.size() > 1;
    x.place(left, width - (named ? std::min(values, 0.3 * width) : 0) - 46);
    std::string out = label(4, top - 10, "start", plot.y_title);
    double y = top;
    for (size_t c = 0; c < plot.categories.size(); ++c) {
        const auto n = std::ranges::count_if(
            plot.series, [&](const PlotSeries& s) { return c < s.y.size() && x.shows(s.y[c]); });
        const double group = bar * static_cast<double>(n);
        out += label(left - 6, y + group / 2 + 4, "end", shortened(plot.categories[c], left - 11));
        for (size_t s = 0; s < plot.series.size(); ++s) {
            const double v = c < plot.series[s].y.size() ? plot.series[s].y[c] : NAN;
            if (!x.shows(v)) continue;
            const double end = x.at(v);
            out += fmt::format(
                "<rect class=\"s{} bar\" fill=\"currentColor\" x=\"{:.1f}\" y=\"{:.1f}\" "
                "width=\"{:.1f}\" height=\"{}\"/>\n",
                s % n_colours, left, y + 1, std::max(end - left, 0.5), bar - 2);
            const std::string name = named ? " " + shortened(plot.series[s].name, 0.3 * width) : "";
            out += label(end + 4, y + bar - 3, "start", number_text(v) + name, " class=\"small\"");
            y += bar;
        }
        y += gap;
    }
    return {out, width, y + 4};
}

}  // namespace

size_t n_characters(std::string_view text) {
    return static_cast<size_t>(std::ranges::count_if(text, [](char c) { return (c & 0xc0) != 0x80; }));
}

double text_width(std::string_view text, double size) {
    return 0.61 * size * static_cast<double>(n_characters(text));
}

std::string xml_text(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '<':
                out += "&lt;";
                break;
            case '>':
                out += "&gt;";
                break;
            case '&':
                out += "&amp;";
                break;
            case '"':
                out += "&quot;";
                break;
            default:
                if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
        }
    }
    return out;
}

Svg draw_plot(const Plot& plot) {
    Svg svg = plot.categories.empty() ? LinePicture(plot).draw() : draw_bars(plot);
    const std::string title = xml_text(plot.title);
    svg.text = fmt::format(
        "<svg class=\"plot\" xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0f} {:.0f}\" role=\"img\" "
        "aria-label=\"{}\">\n{}{}</svg>\n",
        svg.width, svg.height, title, label(4, 16, "start", plot.title, " class=\"title\""), svg.text);
    return svg;
}

std::string with_style(const Svg& svg) {
    const size_t head = svg.text.find(">\n") + 2;
    return fmt::format("{}<style>{}</style>\n<rect class=\"paper\" width=\"{:.0f}\" height=\"{:.0f}\"/>\n{}",
                       svg.text.substr(0, head), plot_style(), svg.width, svg.height, svg.text.substr(head));
}

// Okabe's and Ito's colours, which the colour-blind tell apart; lighter ones in the dark.
std::string_view plot_style() {
    return R"(
.plot { font: 11px "Helvetica Neue", Arial, "DejaVu Sans", sans-serif; }
.plot text { fill: #333; }
.plot .title { font-size: 13px; font-weight: bold; fill: #111; }
.plot .small { font-size: 10px; }
.plot .name { font-weight: bold; fill: currentColor; }
.plot .grid { stroke: #e2e2e2; stroke-width: 1; }
.plot .axis { stroke: #777; stroke-width: 1; }
.plot .spread { stroke-width: 4; stroke-opacity: 0.25; fill: none; }
.plot .leader { stroke: currentColor; stroke-width: 0.6; stroke-opacity: 0.6; fill: none; }
.plot .bar { fill-opacity: 0.8; }
.plot .paper { fill: #fff; }
.s0 { color: #0072b2; } .s1 { color: #c44e00; } .s2 { color: #00805d; } .s3 { color: #a8497f; }
.s4 { color: #7a6200; } .s5 { color: #3186b8; } .s6 { color: #444; } .s7 { color: #8a5a44; }
@media (prefers-color-scheme: dark) {
.plot text { fill: #ccc; } .plot .title { fill: #eee; } .plot .name { fill: currentColor; }
.plot .grid { stroke: #3a3a3a; } .plot .axis { stroke: #999; } .plot .paper { fill: #181818; }
.s0 { color: #5ab4f0; } .s1 { color: #ff9455; } .s2 { color: #3fcf9f; } .s3 { color: #eaa0c9; }
.s4 { color: #dfc24a; } .s5 { color: #9cd6fa; } .s6 { color: #ddd; } .s7 { color: #d3a58f; }
}
)";
}

}  // namespace smelt
