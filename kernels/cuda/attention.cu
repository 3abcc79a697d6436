#include "kernels/cuda/attention.h"

#include <cfloat>
#include <cmath>
#include <type_traits>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/score_scale.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

constexpr int kWarps = 4, kThreads = kWarps * kWarp;
constexpr int kKeys = 32;  // of a tile; with more, heads of 128 need more registers than there are

// Tiles of 16 queries that a warp holds: two read each key from shared memory once for both, but a head of 256 leaves
// registers for one.
template <int D>
inline constexpr int kWarpTiles = D <= 128 ? 2 : 1;
template <int D>
inline constexpr int kQueries = kWarps * 16 * kWarpTiles<D>;  // of a block

// Softmax of M * 16 rows, key tile by key tile. A lane keeps of its rows g and g + 8 the largest score so far, times
// `scale`, and its own part of the sum, in powers of two below that.
template <int D, int M>
struct OnlineSoftmax {
    float top[M][2], sum[M][2], out[M][D / 8][4];

    __device__ __forceinline__ void clear() {
#pragma unroll
        for (int m = 0; m < M; ++m) {
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                top[m][r] = -FLT_MAX;
                sum[m][r] = 0;
            }
#pragma unroll
            for (int c = 0; c < D / 8; ++c)
#pragma unroll
                for (int i = 0; i < 4; ++i)
                    out[m][c][i] = 0;
        }
    }

    // Turns a tile's scores into weights, and scales what was summed before to the new largest score. A hidden key's
    // weight is an exact zero, so that a tile does nothing to rows that see none of it. What is rounded when is written out:
    // the compiler may choose otherwise for each row of a tile, and a row's bits must not depend on its place in one.
    template <int N>
    __device__ __forceinline__ void take(float (&scores)[M][N][4], float scale) {
#pragma unroll
        for (int m = 0; m < M; ++m)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float best = -INFINITY;
#pragma unroll
                for (int j = 0; j < N; ++j)
                    best = fmaxf(best, fmaxf(scores[m][j][2 * r], scores[m][j][2 * r + 1]));
                const float now = fmaxf(top[m][r], __fmul_rn(row_max(best), scale));
                if (__any_sync(kAllLanes, now > top[m][r])) {  // else all is times 1
                    const float shrink = exp2_approximate(top[m][r] - now);
                    top[m][r] = now;
                    sum[m][r] *= shrink;
#pragma unroll
                    for (int c = 0; c < D / 8; ++c) {
                        out[m][c][2 * r] *= shrink;
                        out[m][c][2 * r + 1] *= shrink;
                    }
                }
                float added = 0;
#pragma unroll
                for (int j = 0; j < N; ++j)
#pragma unroll
                    for (int i = 2 * r; i < 2 * r + 2; ++i) {
                        scores[m][j][i] = exp2_approximate(__fmaf_rn(scores[m][j][i], scale, -now));
                        added += scores[m][j][i];
                    }
                sum[m][r] += added;
            }
    }
};

// out[i, h] = softmax(q[i, h] . k / sqrt(d)) v over keys 0 .. first + i, all BF16, sums in F32, weights rounded to BF16.
//
// A block takes kQueries<D> queries of a head and goes through the keys in tiles from position 0; the next tile arrives while
// one is computed with. Two blocks fit into a multiprocessor. A warp leaves out tiles that none of its rows sees. What a
// row computes does not depend on its place in a tile, nor on where the chunk begins: the bits are the same however a
// prompt is cut.
//
// Grid: (query heads, tiles of queries, the last first: it sees most keys). Heads that share keys are neighbours, for the
// cache. Block: 4 warps. Shared: (kQueries + 4 kKeys) (D + 8) 2 bytes, 68 KiB for D = 128.
// FLOPs: 4 n_q d_head a visible pair of query and key. Device memory: q, out, and k, v once for each wave of blocks.
template <int D>
__global__ void __launch_bounds__(kThreads, 2) attention_kernel(AttentionTask task) {
    constexpr int M = kWarpTiles<D>, rows = kQueries<D>;
    CAKE_DYNAMIC_SHARED(bf16, queries);
    bf16* stages = queries + rows * kTileStride<D>;  // twice keys and values
    constexpr int tile = kKeys * kTileStride<D>;

    const int head = int(blockIdx.x), d = task.d_head, warp = int(threadIdx.x) / kWarp;
    const int begin = int(gridDim.y - 1 - blockIdx.y) * rows, end = min(begin + rows, task.n);
    const int n_keys = task.first + end, stride = task.n_q * d;
    const std::int64_t of_head = head / task.group * task.capacity * d;
    const auto* k = static_cast<const bf16*>(task.k) + of_head;
    const auto* v = static_cast<const bf16*>(task.v) + of_head;
    const int warp_begin = begin + warp * M * 16, position = task.first + warp_begin;
    const float scale = score_scale(d);

    const auto load_keys = [&](bf16* stage, int key) {
        load_tile<D, kKeys, kThreads>(stage, k + std::int64_t(key) * d, d, n_keys - key, d);
        load_tile<D, kKeys, kThreads>(stage + tile, v + std::int64_t(key) * d, d, n_keys - key, d);
    };
    load_tile<D, rows, kThreads>(
        queries, static_cast<const bf16*>(task.q) + std::int64_t(begin) * stride + head * d, stride,
        end - begin, d);
    load_keys(stages, 0);
    cp_async_commit();

    OnlineSoftmax<D, M> softmax;
    softmax.clear();
    bf16 *here = stages, *next = stages + 2 * tile;
    for (int key = 0; key < n_keys; key += kKeys) {
        cp_async_wait<0>();
        __syncthreads();  // the tile is there, and the last one done with
        if (key + kKeys < n_keys)
            load_keys(next, key + kKeys);
        cp_async_commit();
        if (warp_begin < end && key < position + M * 16) {
            float scores[M][kKeys / 8][4];
            multiply_rows<D>(scores, queries, warp * M * 16, here, 0);
            if (key + kKeys > position + 1)
                hide_later_keys(scores, position, key);
            softmax.take(scores, scale);
            add_weighted_rows<D>(softmax.out, scores, here + tile);
        }
        bf16* const done = here;
        here = next;
        next = done;
    }

    const int lane = int(threadIdx.x) % kWarp;
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const float inverse = 1.0f / row_sum(softmax.sum[m][r]);
            const int row = warp_begin + m * 16 + r * 8 + lane / 4;
            bf16* out =
                static_cast<bf16*>(task.out) + std::int64_t(row) * stride + head * d + lane % 4 * 2;
#pragma unroll
            for (int c = 0; c < D / 8; ++c)
                if (row < end && c * 8 < d)
                    *reinterpret_cast<std::uint32_t*>(out + c * 8) = bf16_pair(
                        softmax.out[m][c][2 * r] * inverse, softmax.out[m][c][2 * r + 1] * inverse);
        }
}

}  // namespace

void attention(Queue queue, const AttentionTask& task) {
    const bool tensor_cores = task.dtype == DType::BF16 && task.cache_type == DType::BF16 &&
                              in_vectors(task.d_head * 2, task.q, task.k, task.v, task.out);
    if (!tensor_cores)
        return attention_f32(queue, task);
    with_tile_width(task.d_head, [&](auto width) {
        constexpr int D = decltype(width)::value, rows = kQueries<D>;
        launch(queue, attention_kernel<D>, dim3(unsigned(task.n_q), blocks_for(task.n, rows)),
               dim3(kThreads), tile_bytes<D>(rows + 4 * kKeys), task);
    });
}

}  // namespace cake::gpu
