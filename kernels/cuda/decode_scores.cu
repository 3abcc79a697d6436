#include "kernels/cuda/decode_scores.h"

#include <algorithm>

#include "kernels/cuda/decode_state.cuh"
#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.cuh"

namespace cake::gpu {
namespace {

// Slots that a block works on at a time, a thread each. Grids say with y how many tiles of one row are worked on at once:
// few, for most rows are far shorter than the longest that tables could hold.
constexpr int kTile = 128;
constexpr int kMostTilesAtOnce = 16;

// Sum of a slot's column of rows [group, length], in head order. In double, as what is added to it later: sums then hardly
// depend on their order.
__device__ double sum_of_heads(const float* rows, int group, int length, int slot) {
    double sum = 0;
    for (int h = 0; h < group; ++h)
        sum += double(rows[std::int64_t(h) * length + slot]);
    return sum;
}

// Grid: (rows of scores of all layers and sequences, tiles at once). Block: kTile candidates at a time.
// Shared: kTile + pool - 1 doubles. Reads the probabilities of the candidates once, besides the edges of tiles.
__global__ void decode_scores_kernel(DecodeScoresTask task, CacheBatch kv) {
    CAKE_DYNAMIC_SHARED(double, listed);  // sums of candidates first - r .. first + kTile + r
    const int at = int(blockIdx.x) / task.rows, row = int(blockIdx.x) % task.rows;
    const LayerState state = layer_state(kv, at, task.window);
    const int m = state.candidates, r = (task.pool - 1) / 2;
    const int heads = kv.format.n_kv / task.rows;  // KV heads of a row
    const LayerSlots slots(kv, at / kv.batch, at % kv.batch);

    for (int first = int(blockIdx.y) * kTile; first < m; first += int(gridDim.y) * kTile) {
        for (int j = int(threadIdx.x); j < kTile + 2 * r; j += kTile) {
            const int entry = first + j - r;
            double sum = 0;  // zeros outside
            if (entry >= 0 && entry < m)
                for (int g = row * heads; g < (row + 1) * heads; ++g)
                    sum += sum_of_heads(task.probs.data + task.probs.offsets[at] +
                                            std::int64_t(g) * task.group * state.length,
                                        task.group, state.length, slots.order(g, entry));
            listed[j] = sum;
        }
        __syncthreads();
        const int i = first + int(threadIdx.x);
        if (i < m) {
            double pooled = 0;
            for (int j = 0; j < task.pool; ++j)
                pooled += listed[threadIdx.x + unsigned(j)];
            task.scores.data[task.scores.offsets[at] + std::int64_t(row) * m + i] =
                float(pooled / (double(task.pool) * task.divisor));
        }
        __syncthreads();
    }
}

// Grid: (KV heads of all layers and sequences, tiles at once). Block: kTile slots at a time.
// Moves group + 1 floats a slot.
__global__ void decode_means_kernel(RaggedBlocks probs, int group, double divisor,
                                    RaggedBlocks means, CacheBatch kv) {
    const int at = int(blockIdx.x) / kv.format.n_kv, g = int(blockIdx.x) % kv.format.n_kv;
    const int length = kv.lengths[at];
    if (probs.offsets[at] < 0 || means.offsets[at] < 0)
        return;
    const float* const rows = probs.data + probs.offsets[at] + std::int64_t(g) * group * length;
    float* const out = means.data + means.offsets[at] + std::int64_t(g) * length;
    for (int slot = int(blockIdx.y) * kTile + int(threadIdx.x); slot < length;
         slot += int(gridDim.y) * kTile)
        out[slot] = float(sum_of_heads(rows, group, length, slot) / divisor);
}

// Grid and block as above. Moves three floats a slot.
__global__ void add_running_kernel(RaggedBlocks means, CacheBatch kv) {
    const int at = int(blockIdx.x) / kv.format.n_kv, g = int(blockIdx.x) % kv.format.n_kv;
    const int length = kv.lengths[at];
    if (means.offsets[at] < 0)
        return;
    const LayerSlots slots(kv, at / kv.batch, at % kv.batch);
    const float* const mean = means.data + means.offsets[at] + std::int64_t(g) * length;
    for (int slot = int(blockIdx.y) * kTile + int(threadIdx.x); slot < length;
         slot += int(gridDim.y) * kTile)
        slots.running(g, slot) += mean[slot];
}

// `rows` of each layer and sequence.
dim3 grid_of(int rows, const CacheBatch& kv) {
    return dim3(unsigned(kv.n_layers * kv.batch * rows),
                std::min(blocks_for(kv.most_slots(), kTile), unsigned(kMostTilesAtOnce)));
}

}  // namespace

void decode_scores(Queue queue, const DecodeScoresTask& task, const CacheBatch& kv) {
    launch(queue, decode_scores_kernel, grid_of(task.rows, kv), dim3(kTile),
           std::size_t(kTile + task.pool - 1) * sizeof(double), task, kv);
}

void decode_means(Queue queue, const RaggedBlocks& probs, int group, double divisor,
                  const RaggedBlocks& means, const CacheBatch& kv) {
    launch(queue, decode_means_kernel, grid_of(kv.format.n_kv, kv), dim3(kTile), 0, probs, group,
           divisor, means, kv);
}

void add_running(Queue queue, const RaggedBlocks& means, const CacheBatch& kv) {
    launch(queue, add_running_kernel, grid_of(kv.format.n_kv, kv), dim3(kTile), 0, means, kv);
}

}  // namespace cake::gpu
