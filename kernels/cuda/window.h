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

// Statistics are made in parts: of the keys that a warp takes.
inline constexpr int window_part_keys = 256;
constexpr std::int64_t window_parts(std::int64_t keys) {
    constexpr std::int64_t slices = 2, span = slices * window_part_keys;
    return (keys + span - 1) / span * slices;
}

// Device memory that window_moments works in: of each row and part a sum (F64) and a maximum (F32), of each row two floats, of
// each head and part of the columns two F64.
constexpr std::size_t window_scratch_bytes(std::int64_t n_q, std::int64_t window,
                                           std::int64_t n_tokens) {
    return std::size_t(n_q * window * (window_parts(n_tokens) * 12 + 8) +
                       n_q * window_parts(n_tokens - window) * 16);
}

// `scratch`: window_scratch_bytes() of them. mean, variance: [n_q, n_tokens - window]; sums: [2].
void window_moments(Queue queue, const WindowTask& task, DType round_to, void* scratch, float* mean,
                    float* variance, double* sums);

}  // namespace cake::gpu
