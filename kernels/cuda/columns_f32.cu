#include <cfloat>
#include <cmath>

#include "kernels/cuda/columns.h"
#include "kernels/cuda/kernel.h"
#include "kernels/cuda/score_scale.cuh"
#include "kernels/cuda/score_tile.cuh"

namespace cake::gpu {
namespace {

// As row_sums_kernel (columns.cu), in F32: 32 rows of a head, keys in tiles of 32.
// Grid: (query heads, tiles of rows, the last first). Block: 256 threads, eight to a row. Shared: two tiles of 32 rows of
// d_head + 1 floats, 33 KiB for 128. FLOPs: 2 n_q d_head a visible pair of query and key.
template <typename T, typename Cache>
__global__ void __launch_bounds__(kScoreThreads) row_sums_f32_kernel(ColumnsTask task) {
    const int d = task.d_head;
    CAKE_DYNAMIC_SHARED(float, queries);
    float* keys = queries + kScoreSide * score_stride(d);

    const int head = int(blockIdx.x), row = int(threadIdx.x) / kScoreLanes;
    const int begin = int(gridDim.y - 1 - blockIdx.y) * kScoreSide;
    const int end = min(begin + kScoreSide, task.n), n_keys = task.first + end;
    const int stride = task.n_q * d;
    const auto* k = static_cast<const Cache*>(task.k) + head / task.group * task.capacity * d;
    const float scale = score_scale(d);

    load_score_tile(queries,
                    static_cast<const T*>(task.q) + std::int64_t(begin) * stride + head * d, stride,
                    end - begin, d);
    float top = -FLT_MAX;
    double sum = 0;
    for (int key = 0; key < n_keys; key += kScoreSide) {
        __syncthreads();  // the last tile is done with
        load_score_tile(keys, k + std::int64_t(key) * d, d, n_keys - key, d);
        __syncthreads();
        float scores[kScoreKeys];
        make_scores(scores, queries, keys, d, scale, task.first + begin, key);
        float best = top;
#pragma unroll
        for (int j = 0; j < kScoreKeys; ++j)
            best = fmaxf(best, scores[j]);
        best = score_row_max(best);
        float added = 0;
#pragma unroll
        for (int j = 0; j < kScoreKeys; ++j)
            added += exp2f(scores[j] - best);
        sum = sum * double(exp2f(top - best)) + double(score_row_sum(added));
        top = best;
    }
    if (begin + row < end && threadIdx.x % kScoreLanes == 0) {
        task.top[std::int64_t(head) * task.n + begin + row] = top;
        task.inverse[std::int64_t(head) * task.n + begin + row] = float(1 / sum);
    }
}

// As column_sums_kernel (columns.cu), in F32: 32 keys of a head, rows in tiles of 32, added by the first warp.
// Grid: (query heads, tiles of keys). Block, shared memory and FLOPs as above, and 4 KiB of weights.
template <typename T, typename Cache>
__global__ void __launch_bounds__(kScoreThreads) column_sums_f32_kernel(ColumnsTask task) {
    constexpr int weight_stride = kScoreSide + 1;
    const int d = task.d_head, stride = task.n_q * d;
    CAKE_DYNAMIC_SHARED(float, keys);
    float* queries = keys + kScoreSide * score_stride(d);
    float* weights = queries + kScoreSide * score_stride(d);

    const int head = int(blockIdx.x), lane = int(threadIdx.x) % kScoreLanes;
    const int row_here = int(threadIdx.x) / kScoreLanes;
    const int begin = int(blockIdx.y) * kScoreSide, n_keys = task.first + task.n;
    const int column = begin + int(threadIdx.x);
    const bool adds = threadIdx.x < kScoreSide && column < n_keys;
    const float scale = score_scale(d);

    load_score_tile(
        keys, static_cast<const Cache*>(task.k) + (head / task.group * task.capacity + begin) * d,
        d, n_keys - begin, d);
    float* const sum = task.sums + head * task.n_columns + column;
    float total = adds ? *sum : 0.0f;
    const int hidden = max(begin - task.first, 0);  // rows before all keys of the block
    for (int row = hidden / kScoreSide * kScoreSide; row < task.n; row += kScoreSide) {
        load_score_tile(queries,
                        static_cast<const T*>(task.q) + std::int64_t(row) * stride + head * d,
                        stride, task.n - row, d);
        __syncthreads();
        float scores[kScoreKeys];
        make_scores(scores, queries, keys, d, scale, task.first + row, begin);
        const bool valid = row + row_here < task.n;
        const std::int64_t of_row = std::int64_t(head) * task.n + row + row_here;
        const float subtract = valid ? task.top[of_row] : 0.0f;
        const float factor = valid ? task.inverse[of_row] : 0.0f;
#pragma unroll
        for (int j = 0; j < kScoreKeys; ++j)
            weights[row_here * weight_stride + lane + kScoreLanes * j] =
                exp2f(scores[j] - subtract) * factor;
        __syncthreads();
        if (adds)
            for (int i = 0; i < kScoreSide; ++i)
                total += weights[i * weight_stride + int(threadIdx.x)];
    }
    if (adds)
        *sum = total;
}

}  // namespace

void column_sums_f32(Queue queue, const ColumnsTask& task) {
    with_activation_type(task.dtype, [&](auto tag) {
        with_activation_type(task.cache_type, [&](auto cache_tag) {
            using T = typename decltype(tag)::type;
            using Cache = typename decltype(cache_tag)::type;
            const std::size_t tiles = 2 * score_tile_bytes(task.d_head);
            launch(queue, row_sums_f32_kernel<T, Cache>,
                   dim3(unsigned(task.n_q), blocks_for(task.n, kScoreSide)), dim3(kScoreThreads),
                   tiles, task);
            if (task.n > 0)  // there are keys without queries too
                launch(queue, column_sums_f32_kernel<T, Cache>,
                       dim3(unsigned(task.n_q), blocks_for(task.first + task.n, kScoreSide)),
                       dim3(kScoreThreads), tiles + kScoreSide * (kScoreSide + 1) * 4, task);
        });
    });
}

}  // namespace cake::gpu
