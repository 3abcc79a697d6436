// Launchers of norm.cu: RMSNorm, alone and after a sum, and the sum alone. Rows of d elements of `dtype` (F32 or BF16),
// n of them; weight: F32 [d].
#pragma once

#include "kernels/cuda/launch.h"

namespace cake::gpu {

void rms_norm(Queue queue, DType dtype, const void* x, const float* weight, float eps,
              std::int64_t n, int d, void* out);

// x += delta, rounded to dtype; then out = rms_norm(x).
void add_rms_norm(Queue queue, DType dtype, void* x, const void* delta, const float* weight,
                  float eps, std::int64_t n, int d, void* out);

// x += delta, of n elements.
void add(Queue queue, DType dtype, void* x, const void* delta, std::int64_t n);

}  // namespace cake::gpu
