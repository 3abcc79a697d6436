// Rows of repetitions to means, a table for people and one for programs.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace cake {

// Mean and sample standard deviation (divisor n - 1; 0 of one value).
struct Spread {
    double mean = 0, sd = 0;
    int n = 0;
};
Spread spread(const std::vector<double>& values);

// One line per combination, in order of first appearance: "mean +- sd" of prefill and decode tokens/s, percent of the
// ceilings, bytes. A combination that did not fit says so.
std::string markdown_table(const std::vector<nlohmann::json>& rows);

// One line per combination: mean and standard deviation of every number in `prefill`, `decode` and `kv`.
std::string csv_table(const std::vector<nlohmann::json>& rows);

}  // namespace cake
