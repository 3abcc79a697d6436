#include "kernels/cuda/columns.h"

#include <cfloat>
#include <cmath>
#include <type_traits>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/score_scale.cuh"
#include "kernels/cuda/tile.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// Two passes, since a row's weights need its sum. Both go through scores in tiles, and in both a hidden key adds an exact
// zero, so that how a prompt is cut into chunks does not change a bit.

constexpr int kWarps = 4, kThreads = kWarps * kWarp;

// ---- the first pass: of each row the largest score, and the sum --------------------------------------------------------
constexpr int kRowTiles = 2;  // of 16 rows, of a warp
constexpr int kRows = kWarps * kRowTiles * 16, kRowKeys = 64;

// top[h, i] = largest score of row i times log2(e), inverse[h, i] = 1 / sum over keys of 2^(score - top), in double.
// A lane keeps its own part of its rows, of keys whose places in a tile are the same; parts meet at the end.
//
// Grid: (query heads, tiles of 128 rows, the last first: it sees most keys). Block: 4 warps. Shared: (128 + 2 * 64) (D + 8) 2
// bytes, 68 KiB for D = 128. FLOPs: 2 n_q d_head a visible pair of query and key.
template <int D>
__global__ void __launch_bounds__(kThreads, 2) row_sums_kernel(ColumnsTask task) {
    constexpr int M = kRowTiles, N = kRowKeys / 8;
    CAKE_DYNAMIC_SHARED(bf16, queries);
    bf16 *here = queries + kRows * kTileStride<D>, *next = here + kRowKeys * kTileStride<D>;

    const int head = int(blockIdx.x), d = task.d_head, lane = int(threadIdx.x) % kWarp;
    const int begin = int(gridDim.y - 1 - blockIdx.y) * kRows, end = min(begin + kRows, task.n);
    const int n_keys = task.first + end, stride = task.n_q * d;
    const int warp_row = int(threadIdx.x) / kWarp * M * 16;
    const int warp_begin = begin + warp_row, position = task.first + warp_begin;
    const auto* k = static_cast<const bf16*>(task.k) + head / task.group * task.capacity * d;
    const float scale = score_scale(d);

    load_tile<D, kRows, kThreads>(
        queries, static_cast<const bf16*>(task.q) + std::int64_t(begin) * stride + head * d, stride,
        end - begin, d);
    load_tile<D, kRowKeys, kThreads>(here, k, d, n_keys, d);
    cp_async_commit();

    float top[M][2];
    double sum[M][2];
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            top[m][r] = -FLT_MAX;
            sum[m][r] = 0;
        }
    for (int key = 0; key < n_keys; key += kRowKeys) {
        cp_async_wait<0>();
        __syncthreads();  // the tile is there, and the last one done with
        if (key + kRowKeys < n_keys)
            load_tile<D, kRowKeys, kThreads>(next, k + std::int64_t(key + kRowKeys) * d, d,
                                             n_keys - key - kRowKeys, d);
        cp_async_commit();
        if (warp_begin < end && key < position + M * 16) {
            float scores[M][N][4];
            multiply_rows<D>(scores, queries, warp_row, here, 0);
            if (key + kRowKeys > position + 1)
                hide_later_keys(scores, position, key);
#pragma unroll
            for (int m = 0; m < M; ++m)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    float best = -INFINITY;
#pragma unroll
                    for (int j = 0; j < N; ++j)
                        best = fmaxf(best, fmaxf(scores[m][j][2 * r], scores[m][j][2 * r + 1]));
                    if (const float now = __fmul_rn(best, scale); now > top[m][r]) {
                        sum[m][r] *= double(exp2_approximate(top[m][r] - now));
                        top[m][r] = now;
                    }
                    float added = 0;
#pragma unroll
                    for (int j = 0; j < N; ++j)
#pragma unroll
                        for (int i = 2 * r; i < 2 * r + 2; ++i)
                            added +=
                                exp2_approximate(__fmaf_rn(scores[m][j][i], scale, -top[m][r]));
                    sum[m][r] += double(added);
                }
        }
        bf16* const done = here;
        here = next;
        next = done;
    }

#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const float row_top = row_max(top[m][r]);
            const double total = row_sum(sum[m][r] * double(exp2_approximate(top[m][r] - row_top)));
            const int row = warp_begin + m * 16 + r * 8 + lane / 4;
            if (row < end && lane % 4 == 0) {
                task.top[std::int64_t(head) * task.n + row] = row_top;
                task.inverse[std::int64_t(head) * task.n + row] = float(1 / total);
            }
        }
}

// ---- the second pass: columns -----------------------------------------------------------------------------------------
constexpr int kWarpKeys = 32;  // one a lane
constexpr int kColumnKeys = kWarps * kWarpKeys, kColumnRows = 64, kHalf = kColumnRows / 2;
// Floats from a row of weights to the next: eight rows of two neighbours each lie in different banks.
constexpr int kWeightStride = kWarpKeys + 8;

template <int D>
constexpr std::size_t column_bytes() {
    return tile_bytes<D>(kColumnKeys + 2 * kColumnRows) +
           std::size_t(kWarps) * kHalf * kWeightStride * sizeof(float);
}

// sums[h, j] += 2^(score[i, j] - top[i]) * inverse[i], rows i in order. A block has 128 keys of a head, 32 a warp, and goes
// through the rows that see one of them, in tiles of 64. A warp makes the weights of its keys as fragments, 32 rows at a
// time, and passes them through shared memory to the lanes: one has a column, and adds row after row.
//
// Grid: (query heads, tiles of 128 keys). Block: 4 warps. Shared: (128 + 2 * 64) (D + 8) 2 bytes and 20 KiB of weights, 88 KiB
// for D = 128. FLOPs: 2 n_q d_head a visible pair of query and key.
template <int D>
__global__ void __launch_bounds__(kThreads, 2) column_sums_kernel(ColumnsTask task) {
    constexpr int M = kColumnRows / 16, N = kWarpKeys / 8;
    CAKE_DYNAMIC_SHARED(bf16, keys);
    bf16 *here = keys + kColumnKeys * kTileStride<D>, *next = here + kColumnRows * kTileStride<D>;
    const int head = int(blockIdx.x), d = task.d_head, stride = task.n_q * d;
    const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
    float* weights = reinterpret_cast<float*>(next + kColumnRows * kTileStride<D>) +
                     warp * kHalf * kWeightStride;

    const int begin = int(blockIdx.y) * kColumnKeys, n_keys = task.first + task.n;
    const int warp_key = begin + warp * kWarpKeys, column = warp_key + lane;
    const auto* q = static_cast<const bf16*>(task.q) + head * d;
    const float* top = task.top + std::int64_t(head) * task.n;
    const float* inverse = task.inverse + std::int64_t(head) * task.n;
    const float scale = score_scale(d);

    const int hidden = max(begin - task.first, 0);  // rows before all keys of the block
    int row = hidden / kColumnRows * kColumnRows;
    load_tile<D, kColumnKeys, kThreads>(
        keys, static_cast<const bf16*>(task.k) + (head / task.group * task.capacity + begin) * d, d,
        n_keys - begin, d);
    load_tile<D, kColumnRows, kThreads>(here, q + std::int64_t(row) * stride, stride, task.n - row,
                                        d);
    cp_async_commit();

    float* const sum = task.sums + head * task.n_columns + column;
    float total = column < n_keys ? *sum : 0.0f;
    for (; row < task.n; row += kColumnRows) {
        cp_async_wait<0>();
        __syncthreads();  // the tile is there, and the last one done with
        if (const int then = row + kColumnRows; then < task.n)
            load_tile<D, kColumnRows, kThreads>(next, q + std::int64_t(then) * stride, stride,
                                                task.n - then, d);
        cp_async_commit();
        const int position = task.first + row;
        if (warp_key < position + kColumnRows) {
            float scores[M][N][4];
            multiply_rows<D>(scores, here, 0, keys, warp * kWarpKeys);
            if (warp_key + kWarpKeys > position + 1)
                hide_later_keys(scores, position, warp_key);
#pragma unroll
            for (int half = 0; half < M; half += M / 2) {
#pragma unroll
                for (int m = 0; m < M / 2; ++m)
#pragma unroll
                    for (int r = 0; r < 2; ++r) {
                        const int in_half = m * 16 + r * 8 + lane / 4;
                        const int i = row + half * 16 + in_half;
                        const float subtract = i < task.n ? top[i] : 0.0f;
                        const float factor = i < task.n ? inverse[i] : 0.0f;
#pragma unroll
                        for (int j = 0; j < N; ++j) {
                            const float* s = scores[half + m][j] + 2 * r;
                            store(weights + in_half * kWeightStride + j * 8 + lane % 4 * 2,
                                  {exp2_approximate(__fmaf_rn(s[0], scale, -subtract)) * factor,
                                   exp2_approximate(__fmaf_rn(s[1], scale, -subtract)) * factor});
                        }
                    }
                __syncwarp();
#pragma unroll
                for (int i = 0; i < kHalf; ++i)
                    total += weights[i * kWeightStride + lane];
                __syncwarp();
            }
        }
        bf16* const done = here;
        here = next;
        next = done;
    }
    if (column < n_keys)
        *sum = total;
}

}  // namespace

void column_sums(Queue queue, const ColumnsTask& task) {
    const bool tensor_cores = task.dtype == DType::BF16 && task.cache_type == DType::BF16 &&
                              task.d_head <= 256 && in_vectors(task.d_head * 2, task.q, task.k);
    if (!tensor_cores)
        return column_sums_f32(queue, task);
    with_tile_width(task.d_head, [&](auto width) {
        constexpr int D = decltype(width)::value;
        launch(queue, row_sums_kernel<D>, dim3(unsigned(task.n_q), blocks_for(task.n, kRows)),
               dim3(kThreads), tile_bytes<D>(kRows + 2 * kRowKeys), task);
        if (task.n > 0)  // there are keys without queries too
            launch(queue, column_sums_kernel<D>,
                   dim3(unsigned(task.n_q), blocks_for(task.first + task.n, kColumnKeys)),
                   dim3(kThreads), column_bytes<D>(), task);
    });
}

}  // namespace cake::gpu
