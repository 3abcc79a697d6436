// Launchers of rope.cu: rotary position embedding on the way from the QKV product to where attention reads.
#pragma once

#include "kernels/cuda/pages.h"

namespace cake::gpu {

struct RopeTask {
    DType dtype = DType::BF16;        // of qkv and q: F32 or BF16
    const void* qkv = nullptr;        // [n, (n_q + 2 n_kv) d_head]: queries, keys, values
    const float* inv_freq = nullptr;  // [d_head / 2]
    float scale = 1;                  // of cos and sin
    void* q = nullptr;                // [n, n_q, d_head]
    int n_q = 0, n_kv = 0, d_head = 0;
};

// Rows 0 .. n are positions first .. first + n, and rows of k, v [n_kv, capacity, d_head] of cache_type (F32 or BF16).
void rope_split(Queue queue, const RopeTask& task, std::int64_t n, std::int64_t first,
                DType cache_type, void* k, void* v, std::int64_t capacity);

// Row b is sequence b's newest token, at kv.positions[b]; key, value and position go to the slot that the order list of
// `layer` names at entry length - 1, whose running sum becomes 0.
void rope_append(Queue queue, const RopeTask& task, int layer, const CacheBatch& kv);

}  // namespace cake::gpu
