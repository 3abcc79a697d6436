// Launchers of decode_scores.cu: what newest tokens attended to, made into scores of old slots.
#pragma once

#include "kernels/cuda/pages.h"

namespace cake::gpu {

// Rows of floats for each (layer, sequence): block i, of as many floats as its length asks for, from data + offsets[i].
struct RaggedBlocks {
    float* data = nullptr;
    const std::int64_t* offsets = nullptr;  // [n_layers, batch]
};

struct DecodeScoresTask {
    RaggedBlocks probs;   // [n_kv * group, length] by slot
    RaggedBlocks scores;  // [rows, length - window], in memory of its own
    int group = 1;
    int rows = 1;  // n_kv; or 1, of sums over all heads
    int window = 0;
    int pool = 1;
    double divisor = 1;
};
// Pooled sums of candidates of layers that hold too much; blocks of other layers are left alone.
void decode_scores(Queue queue, const DecodeScoresTask& task, const CacheBatch& kv);

// means [n_kv, length] = sums over the heads of a group, / divisor. Blocks with a negative offset are none.
void decode_means(Queue queue, const RaggedBlocks& probs, int group, double divisor,
                  const RaggedBlocks& means, const CacheBatch& kv);

// The pages' running sums += means.
void add_running(Queue queue, const RaggedBlocks& means, const CacheBatch& kv);

}  // namespace cake::gpu
