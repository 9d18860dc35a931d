// What measurements wrote (bench --suite, --compare, --ops, --batch, --serve, plain bench; bench/compare.py's
// CSV) as one list of flat rows, from which plots and tables are made. Knows no models.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace smelt {

struct Results {
    // Each an object: "kind" says what was varied; what of it was measured is a number, or an object with
    // "median", "min" and "max".
    std::vector<Json> rows = {};
    std::vector<Json> ops = {};      // one for each op of a phase, with the device's roof
    std::vector<Json> sources = {};  // file, machine, command and date of each
    std::vector<Json> skipped = {};  // cases with their reason
};

// Throws Error naming a file that is no result.
Results read_results(const std::vector<std::filesystem::path>& files);

// A member of a row by its path, "itl_ms.p99": a number, or the median of an object that has one.
std::optional<double> number_at(const Json& row, const std::string& path);
// Of what a person reads: a text as it is, a number as short as it goes, else "".
std::string text_at(const Json& row, const std::string& path);

}  // namespace smelt
