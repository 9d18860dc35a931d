// Numbers as SVG pictures: lines, points and bars on linear or logarithmic axes. Series are told apart by
// markers, dashes and names beside them, so that a picture can be read without colour. No data is read here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace smelt {

struct PlotSeries {
    std::string name = {};
    std::vector<double> x = {}, y = {};       // on a logarithmic axis, what is not above 0 is left out
    std::vector<double> low = {}, high = {};  // of each y; empty: no spread is drawn
    std::vector<std::string> labels = {};     // of points
    bool line = true, points = true;
};
struct Plot {
    std::string id = {};  // the name of its file
    std::string title = {}, x_title = {}, y_title = {};
    std::vector<PlotSeries> series = {};
    bool log_x = false, log_y = false;
    // Bars, one of each series for each name; x is not used.
    std::vector<std::string> categories = {};
};

struct Svg {
    std::string text;
    double width = 0, height = 0;
};
// For a page that has plot_style() once. As a file of its own it takes with_style().
Svg draw_plot(const Plot& plot);
std::string with_style(const Svg& svg);

// Colours in the light and in the dark, as CSS.
std::string_view plot_style();

// For text between tags and in attributes; bytes that XML forbids are left out.
std::string xml_text(std::string_view text);
size_t n_characters(std::string_view text);
// About how wide a text is in letters of this size.
double text_width(std::string_view text, double size);

}  // namespace smelt
