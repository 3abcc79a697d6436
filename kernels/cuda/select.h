// The k best of n scores (kernels/backend.h: top_k).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cake::gpu {

// Of device memory that top_k works in.
std::size_t top_k_scratch_bytes(int rows, int k);

// score: [rows, n]; keep: [rows, k], best first; 0 < k <= n.
void top_k(Queue queue, const float* score, int rows, int n, int k, void* scratch,
           std::int32_t* keep);

}  // namespace cake::gpu
