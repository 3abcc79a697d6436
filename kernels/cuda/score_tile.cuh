// Scores of attention in F32, of queries and keys of any type: for what tensor cores do not take, and for parity.
#pragma once

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {

// A block of 256 threads makes the scores of 32 queries with 32 keys: eight neighbours share a row, each has the keys
// lane + 8 j of it.
inline constexpr int kScoreSide = 32, kScoreLanes = 8, kScoreKeys = kScoreSide / kScoreLanes,
                     kScoreThreads = kScoreSide * kScoreLanes;

// Elements from a row of a tile to the next: one more than are there, so that a column lies in different banks.
__device__ __forceinline__ int score_stride(int d) { return d + 1; }
inline std::size_t score_tile_bytes(int d) { return std::size_t(kScoreSide) * (d + 1) * 4; }

// tile[r, c] = from[r * stride + c], zeros in rows from `rows` on, which are not read. By the whole block.
template <typename T>
__device__ void load_score_tile(float* tile, const T* __restrict__ from, int stride, int rows,
                                int d) {
    for (int i = int(threadIdx.x); i < kScoreSide * d; i += kScoreThreads) {
        const int row = i / d, column = i % d;
        tile[row * score_stride(d) + column] =
            row < rows ? widen(from[std::int64_t(row) * stride + column]) : 0.0f;
    }
}

// scores[j] = scale * (query of this thread's row . key lane + 8 j), -infinity where the key comes after the query.
__device__ __forceinline__ void make_scores(float (&scores)[kScoreKeys], const float* queries,
                                            const float* keys, int d, float scale, int position,
                                            int key) {
    const int row = int(threadIdx.x) / kScoreLanes, lane = int(threadIdx.x) % kScoreLanes;
    const int stride = score_stride(d);
#pragma unroll
    for (int j = 0; j < kScoreKeys; ++j)
        scores[j] = 0;
    for (int c = 0; c < d; ++c) {
        const float x = queries[row * stride + c];
#pragma unroll
        for (int j = 0; j < kScoreKeys; ++j)
            scores[j] += x * keys[(lane + kScoreLanes * j) * stride + c];
    }
    // Rounded before anything is subtracted from it: the largest score of a row then has the weight 1.
#pragma unroll
    for (int j = 0; j < kScoreKeys; ++j)
        scores[j] = position + row >= key + lane + kScoreLanes * j ? __fmul_rn(scores[j], scale)
                                                                   : -INFINITY;
}

// Over the eight threads of a row.
__device__ __forceinline__ float score_row_max(float x) {
#pragma unroll
    for (int distance = kScoreLanes / 2; distance > 0; distance /= 2)
        x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, distance));
    return x;
}
template <typename T>
__device__ __forceinline__ T score_row_sum(T x) {
#pragma unroll
    for (int distance = kScoreLanes / 2; distance > 0; distance /= 2)
        x += __shfl_xor_sync(kAllLanes, x, distance);
    return x;
}

}  // namespace cake::gpu
