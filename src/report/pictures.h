// SVG to PNG and PDF, with librsvg and cairo where they are on this machine.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "report/plot.h"

namespace smelt {

class PictureMaker {
 public:
    virtual ~PictureMaker() = default;
    // The bytes of a file. Throw Error with what the library says. A unit is `scale` pixels, or a point.
    virtual std::string png(const std::string& svg, double width, double height, double scale) const = 0;
    virtual std::string pdf(std::span<const Svg> pages) const = 0;
};

// Null: `missing` says which library is not here, and how to get it.
std::unique_ptr<PictureMaker> open_picture_maker(std::string& missing);

}  // namespace smelt
