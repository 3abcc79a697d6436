// Launchers of decode_attention.cu: a step of decoding, and what its newest tokens attend to.
#pragma once

#include "kernels/cuda/pages.h"

namespace cake::gpu {

struct DecodeAttentionTask {
    DType dtype = DType::BF16;  // of q and out: F32 or BF16
    const void* q = nullptr;    // [batch, n_q, d_head]
    void* out = nullptr;        // [batch, n_q, d_head]
    int n_q = 0;
    // Softmax rows by slot: sequence b's, [n_q, length], from probs + offsets[b]; none where that is negative, or where
    // offsets, [batch], is null.
    float* probs = nullptr;
    const std::int64_t* offsets = nullptr;
    float* partials = nullptr;  // decode_partial_floats() of them
};

// lengths += 1, positions += 1.
void begin_step(Queue queue, const CacheBatch& kv);

// A block takes so many slots.
inline constexpr int decode_split = 256;
// Floats between the two kernels of decode_attention, of page tables that have room for `most_slots`: of each split a sum of
// values, a maximum and a sum of weights.
constexpr std::int64_t decode_partial_floats(std::int64_t batch, std::int64_t n_q,
                                             std::int64_t d_head, std::int64_t most_slots) {
    return batch * n_q * ((most_slots + decode_split - 1) / decode_split) * (d_head + 2);
}

// Attention of each sequence's query over the slots that `layer` has in use. The grid follows from the most slots that
// page tables hold: lengths lie in device memory. d_head is even, and at most 512.
void decode_attention(Queue queue, const DecodeAttentionTask& task, int layer,
                      const CacheBatch& kv);

}  // namespace cake::gpu
