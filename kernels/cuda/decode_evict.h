// Launchers of decode_evict.cu: after a step of decoding, what is over a layer's budget leaves.
#pragma once

#include "kernels/cuda/decode_scores.h"
#include "kernels/cuda/pages.h"

namespace cake::gpu {

struct DecodeEvictTask {
    RaggedBlocks scores;  // [rows, length - window] of each layer that holds too much
    int rows = 0;         // n_kv; 1, which serves all heads; 0: the running sums are the scores
    int window = 0;
    bool best_first = false;    // the order of what stays; else the list's own
    std::byte* work = nullptr;  // decode_evict_bytes() of them, aligned to 16
};

// Device memory for tables with many slots, 12 bytes a slot of up to 128 KV heads; 0 where shared memory is enough.
std::size_t decode_evict_bytes(const CacheBatch& kv);

// For all layers, sequences and KV heads at once, or 128 of them where they need device memory; then lengths become
// budget + window.
void decode_evict(Queue queue, const DecodeEvictTask& task, const CacheBatch& kv);

}  // namespace cake::gpu
