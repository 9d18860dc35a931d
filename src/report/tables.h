// Which tables are made of results. Knows no pages.
#pragma once

#include <string>
#include <vector>

#include "report/results.h"

namespace smelt {

struct ReportTable {
    std::string title;
    std::vector<std::string> columns;
    std::vector<std::vector<std::string>> rows;  // numbers for people; "" where there is none
};
std::vector<ReportTable> make_tables(const Results& results);

}  // namespace smelt
