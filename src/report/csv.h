// Tables as comma-separated values, as RFC 4180 has them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace smelt {

using CsvRow = std::vector<std::string>;
using CsvTable = std::vector<CsvRow>;  // the first row names the columns

std::string csv_text(const CsvTable& table);
// Rows as long as they are; a last line without an end is left out.
CsvTable parse_csv(std::string_view text);

}  // namespace smelt
