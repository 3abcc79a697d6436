// The factor of attention's scores.
#pragma once

#include "kernels/cuda/kernel.h"

namespace cake::gpu {

// 1/sqrt(d_head), times log2(e): the weight of a score is then a power of two, e^(s / sqrt(d)) = 2^(s score_scale(d)).
__device__ __forceinline__ float score_scale(int d_head) {
    return 1.44269504f / sqrtf(float(d_head));
}

}  // namespace cake::gpu
