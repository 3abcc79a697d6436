// What a GPU's kernels take of its memory beside what they are given.
#pragma once

#include "engine/plan.h"

namespace cake {

// Of a rank: work space of matrix products, of the window's statistics, of column sums, of decoding; the tables of a batch;
// and the rounding of each tensor to 256 bytes. A test holds it against what the CUDA backend takes.
std::size_t gpu_work_bytes(const PlanInput& input, const Shard& shard);

}  // namespace cake
