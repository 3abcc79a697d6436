// result.json beside LongBench's answers.
#pragma once

#include <vector>

#include "cli/cli.h"
#include "eval/longbench_score.h"

namespace cake {

// Of each folder. Usage error, and none is written, where one that is there has scores that would be lost.
void write_results(const std::vector<FolderScores>& folders, bool buckets);

}  // namespace cake
