// Launchers of decode_evict.cu: after a step of decoding, what is over a layer's budget leaves.
#pragma once

#include <algorithm>

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

// A KV head's key and list entry for each slot.
constexpr std::int64_t decode_evict_head_bytes(std::int64_t most_slots) {
    return (most_slots * 12 + 15) / 16 * 16;
}
inline constexpr int decode_evict_at_once = 128;  // KV heads, where they need device memory
// Device memory that decode_evict works in; 0 where shared memory is enough, beside what reductions take. `heads`: of all
// layers and sequences.
constexpr std::size_t decode_evict_bytes(std::int64_t heads, std::int64_t most_slots) {
    constexpr std::int64_t most_shared = 48 * 1024 - 512;
    const std::int64_t head = decode_evict_head_bytes(most_slots);
    return head <= most_shared
               ? 0
               : std::size_t(std::min<std::int64_t>(heads, decode_evict_at_once) * head);
}

// For all layers, sequences and KV heads at once, or decode_evict_at_once of them; then lengths become budget + window.
void decode_evict(Queue queue, const DecodeEvictTask& task, const CacheBatch& kv);

}  // namespace cake::gpu
