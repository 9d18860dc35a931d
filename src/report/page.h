// A report as one page of HTML, with its plots in it, and as pages for paper. Nothing on it is from
// elsewhere.
#pragma once

#include <string>
#include <vector>

#include "report/plot.h"
#include "report/results.h"
#include "report/tables.h"

namespace smelt {

struct ReportPage {
    std::string title;
    const Results& results;
    std::vector<Plot> plots;
    std::vector<ReportTable> tables;
};

// What a source was measured on and by, line by line: "processor", "AMD EPYC, 2 cores".
std::vector<std::pair<std::string, std::string>> lines_about(const Json& source);

std::string html_page(const ReportPage& page);
// A4, in points.
std::vector<Svg> paper_pages(const ReportPage& page);

}  // namespace smelt
