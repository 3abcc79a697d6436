// Scores of a study of needles, as a table for people and as a file.
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "eval/needle.h"
#include "policy/policy.h"

namespace cake {

// The mean over the trials of a policy's cell.
struct NeedleScore {
    std::string policy;
    int cache_size = 0;  // 0: everything
    NeedleCase which;    // but its trial; of a data file `length` is that of its longest prompt
    int trials = 0;
    double score = 0;  // 0 to 1
};

// Cells in the order of `prompts`. `answers`: texts by id (NeedleCase::id); a prompt without one does not count.
std::vector<NeedleScore> needle_scores(const Policy& policy, std::span<const NeedlePrompt> prompts,
                                       const std::map<std::string, std::string>& answers);

// Markdown: a row per policy, form, length and number of needles, percent found in a column per depth, and their mean.
std::string needle_table(std::span<const NeedleScore> scores);

// policy,cache_size,form,length,depth,needles,trials,score; the depth of a data file is empty.
std::string needle_csv(std::span<const NeedleScore> scores);

}  // namespace cake
