// Which plots are made of results: a table of what is drawn over what. Knows no pages.
#pragma once

#include <vector>

#include "report/plot.h"
#include "report/results.h"

namespace smelt {

// Those that the results have numbers for.
std::vector<Plot> make_plots(const Results& results);

}  // namespace smelt
