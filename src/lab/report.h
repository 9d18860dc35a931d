// A folder of tables and plots about models that were judged on one text: rows are added model by model, so
// that one report holds all formats of a model. Knows neither models nor how numbers were made.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lab/comparison.h"
#include "lab/divergence.h"

namespace smelt {

struct ReportPart {  // of the windows' positions
    int first = 0, last = 0;
    ScoreSummary scores;
};
struct ReportEntry {
    std::string model, reference, text;
    uint64_t bytes = 0, n_weights = 0;
    ScoreSummary scores;
    std::vector<ReportPart> parts;
    std::vector<TensorError> tensors;
};

// Writes models.csv, positions.csv, tensors.csv, report.md, kl.svg and positions.svg in the folder, which is
// made where it is not there. The model's rows replace those that it had. Throws Error: a folder whose tables
// are of another reference or text, or are no tables of this kind.
void add_to_report(const std::filesystem::path& folder, const ReportEntry& entry);

}  // namespace smelt
