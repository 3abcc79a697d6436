// Statistics of the observation window (kernels/backend.h: window_moments).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cake::gpu {

struct WindowTask {
    DType dtype;
    const void* q;  // [window, n_q, d_head]
    DType cache_type;
    const void* k;  // [n_kv, capacity, d_head]
    std::int64_t capacity;
    int n_tokens;  // more than `window`
    int window, n_q, n_kv, d_head;
};

// Of device memory that window_moments works in.
std::size_t window_scratch_bytes(const WindowTask& task);

// mean, variance: [n_q, n_tokens - window]; sums: [2].
void window_moments(Queue queue, const WindowTask& task, DType round_to, void* scratch, float* mean,
                    float* variance, double* sums);

}  // namespace cake::gpu
