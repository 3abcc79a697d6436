// All combinations of a study, one after another; a sweep that was stopped goes on.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "bench/measure.h"

namespace cake {

struct Sweep {
    std::vector<int> prompts;                                        // that fit, ascending
    std::set<std::string> done;                                      // rows that are there already
    std::function<std::vector<TokenId>(int length)> prompt;          // the same on every rank
    std::function<void(const std::string& id, nlohmann::json)> row;  // on rank 0
    std::function<bool()> stopped;  // on rank 0, asked before each prefill and each row
    Ceilings all = {}, alone = {};  // of all ranks, of this one
    Sampling sampling = {};         // of every step
};

// Measures what is not done. False: stopped. Collective.
bool run_sweep(Engine& engine, const RunConfig& config, const Sweep& sweep);

// Rows of a whole sweep over these prompts, for progress.
int count_rows(const RunConfig& config, const ModelConfig& model, const std::vector<int>& prompts);

}  // namespace cake
