// What `cake plan` prints: bytes of each rank, or, with --machine, predictions for each number of ranks.
#pragma once

#include <string>
#include <vector>

#include "engine/roofline.h"

namespace cake {

std::string bytes_table(const PlanInput& plan, const std::vector<RankPlan>& ranks);

struct MachinePlan {
    std::string text;     // a table for people
    nlohmann::json json;  // {machine, predictions: [...]}
    bool fits = false;    // some row does
};

// `plan` is predicted for each of `ranks`.
MachinePlan plan_machine(PlanInput plan, const Machine& machine, const std::vector<int>& ranks);

// 1, 2, 4, 8, ... and `most`.
std::vector<int> doublings(int most);

}  // namespace cake
