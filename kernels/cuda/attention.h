// Launcher of attention.cu: causal attention of a chunk of queries over the keys before and in it.
#pragma once

#include "kernels/cuda/launch.h"

namespace cake::gpu {

struct AttentionTask {
    DType dtype = DType::BF16;       // of q and out: F32 or BF16
    DType cache_type = DType::BF16;  // of k and v: F32 or BF16
    const void* q = nullptr;         // [n, n_q, d_head], positions first .. first + n
    const void* k = nullptr;         // [n_kv, capacity, d_head]
    const void* v = nullptr;         // the same
    void* out = nullptr;             // [n, n_q, d_head]
    std::int64_t capacity = 0;
    int n = 0, first = 0;
    int n_q = 0, group = 1, d_head = 0;  // d_head: a multiple of 8, at most 256
};

// BF16 all over goes through tensor cores, everything else through F32.
void attention(Queue queue, const AttentionTask& task);

// The latter, of any types (attention_f32.cu).
void attention_f32(Queue queue, const AttentionTask& task);

}  // namespace cake::gpu
