// Launcher of random.cu: random weights.
#pragma once

#include "base/random_matrix.h"
#include "kernels/cuda/launch.h"

namespace cake::gpu {

// out[i, j] = matrix.at(row + i, column + j).  out: [n, m] of F32 or BF16.
void fill_random(Queue queue, const RandomMatrix& matrix, std::int64_t row, std::int64_t column,
                 DType dtype, void* out, std::int64_t n, std::int64_t m);

}  // namespace cake::gpu
