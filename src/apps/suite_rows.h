// A case of the suite as a request, and what its runs say as a row; rows as text.
#pragma once

#include <string>
#include <vector>

#include "apps/series.h"
#include "apps/suite_cases.h"
#include "apps/suite_target.h"

namespace smelt {

Request make_request(const SuiteTarget& target, int n_prompt, int n_answer);
Request make_request(const SuiteTarget& target, const SuiteCase& c);

// Of the answers from `first` on, as many as the case has streams.
Json make_row(const SuiteCase& c, const SuiteTarget& target, const std::string& model,
              const std::vector<SuiteRun>& runs, size_t first);

// A line a row, with the machine in each.
std::string suite_csv(const Json& result);
void print_suite(const Json& result);

}  // namespace smelt
