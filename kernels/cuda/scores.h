// Scores of past tokens from the moments of their columns (kernels/backend.h: column_scores, group_mean).
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cake::gpu {

// c = mean * variance of a column, or of_mean * mean + of_variance * variance.
struct ColumnTask {
    const float* mean;  // [heads, n]
    const float* variance;
    bool product;
    float of_mean, of_variance;
    int pool;  // odd
    std::int64_t heads, n;
};

// out[h, i] = sum of c[h, i - pool / 2 .. i + pool / 2] / pool, zeros outside counted.
void column_scores(Queue queue, const ColumnTask& task, float* out);

// out[g, i] = (sum of x[h, i] over the heads of group g, in head order) / divisor.  x: [n_kv * group, n].
void group_mean(Queue queue, const float* x, float divisor, std::int64_t n_kv, std::int64_t group,
                std::int64_t n, float* out);

}  // namespace cake::gpu
