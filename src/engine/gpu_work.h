// What a GPU's kernels take of its memory beside what they are given.
#pragma once

#include "engine/plan.h"

namespace cake {

struct GpuWork {
    std::size_t kernels =
        0;  // what they work in, one after another: as much as the one that needs most
    std::size_t tables =
        0;  // page tables of a batch, positions on their way to a report; rounding to 256 bytes
};

// Of a rank. By the functions that kernels ask for memory by (kernels/cuda/window.h, ...).
GpuWork gpu_work(const PlanInput& input, const Shard& shard);

}  // namespace cake
