// Launcher of columns.cu: sums of the columns of causal attention.
#pragma once

#include "kernels/cuda/launch.h"

namespace cake::gpu {

struct ColumnsTask {
    DType dtype = DType::BF16;       // of q: F32 or BF16
    DType cache_type = DType::BF16;  // of k: F32 or BF16
    const void* q = nullptr;         // [n, n_q, d_head], positions first .. first + n
    const void* k = nullptr;         // [n_kv, capacity, d_head]
    float* sums = nullptr;           // [n_q, n_columns]
    float* top = nullptr;            // [n_q, n], scratch: a row's largest score, in powers of two
    float* inverse = nullptr;        // [n_q, n], scratch: 1 / the sum of its weights below that
    std::int64_t capacity = 0, n_columns = 0;
    int n = 0, first = 0;
    int n_q = 0, group = 1, d_head = 0;
};

// Device memory for `top` and `inverse`.
constexpr std::size_t column_scratch_bytes(std::int64_t n_q, std::int64_t n) {
    return std::size_t(2 * n_q * n) * sizeof(float);
}

// sums[h, j] += the weight of key j in row i of head h, for i = 0 .. n one after another. BF16 queries and keys in rows of
// whole 16 bytes, at most 256 elements, go through tensor cores, everything else through F32.
void column_sums(Queue queue, const ColumnsTask& task);

// The latter, of any types and d_head (columns_f32.cu).
void column_sums_f32(Queue queue, const ColumnsTask& task);

}  // namespace cake::gpu
