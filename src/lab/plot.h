// Points and lines as an SVG picture: two axes, the vertical one logarithmic. No data is read here.
#pragma once

#include <string>
#include <vector>

namespace smelt {

struct PlotSeries {
    std::string name;
    std::vector<double> x = {}, y = {};  // what is not above 0 in y is left out
    bool line = true, points = true, names_points = false;
    std::vector<std::string> labels = {};  // of points, with names_points
};
struct Plot {
    std::string title, x_title, y_title;
    std::vector<PlotSeries> series;
};
std::string draw_svg(const Plot& plot);

}  // namespace smelt
