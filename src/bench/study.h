// What a sweep measures: every combination of the configuration's lists.
#pragma once

#include <string>
#include <vector>

#include "config/run_config.h"
#include "engine/plan.h"

namespace cake {

// One figure of the table: a policy, after one prompt, with so many sequences that decode together.
struct BenchCell {
    Policy policy;
    int prompt = 0, batch = 0, new_tokens = 0;
};

// Each policy with each cache size; "full", which has none, once.
std::vector<Policy> study_policies(const RunConfig& config, const ModelConfig& model);

// Policies that share a prefill: those that observe every query pay for it while the layer passes, so they pass by
// themselves.
std::vector<std::vector<Policy>> prefill_groups(const std::vector<Policy>& policies);

// Name of a row, the same in every run: "p2048/cake-1024/b1/n32/0".
std::string row_id(const BenchCell& cell, int repetition);

// Memory of a sweep whose longest prompt has `prompt` tokens: all policies of a group at once, each with one cache, and
// copies of one of them for the largest batch.
PlanInput study_plan(const RunConfig& config, const ModelConfig& model, int ranks, int prompt,
                     const ComputeTypes& types = {});

}  // namespace cake
