#include <cfloat>
#include <cmath>

#include "kernels/cuda/attention.h"
#include "kernels/cuda/kernel.h"
#include "kernels/cuda/score_scale.cuh"
#include "kernels/cuda/score_tile.cuh"

namespace cake::gpu {
namespace {

// As attention_kernel (attention.cu), in F32: 32 queries of a head, keys in tiles of 32. D: d_head or more.
// Grid: (query heads, tiles of queries, the last first). Block: 256 threads, eight to a row. Shared: three tiles of 32 rows
// of d_head + 1 floats and the weights, 54 KiB for 128. FLOPs: 4 n_q d_head a visible pair of query and key.
template <typename T, typename Cache, int D>
__global__ void __launch_bounds__(kScoreThreads, 2) attention_f32_kernel(AttentionTask task) {
    constexpr int weight_stride = kScoreSide + 1;
    const int d = task.d_head, tile = kScoreSide * score_stride(d);
    CAKE_DYNAMIC_SHARED(float, queries);
    float *keys = queries + tile, *values = keys + tile, *weights = values + tile;

    const int head = int(blockIdx.x), lane = int(threadIdx.x) % kScoreLanes;
    const int row = int(threadIdx.x) / kScoreLanes;
    const int begin = int(gridDim.y - 1 - blockIdx.y) * kScoreSide;
    const int end = min(begin + kScoreSide, task.n), n_keys = task.first + end;
    const int stride = task.n_q * d;
    const std::int64_t of_head = head / task.group * task.capacity * d;
    const float scale = score_scale(d);

    load_score_tile(queries,
                    static_cast<const T*>(task.q) + std::int64_t(begin) * stride + head * d, stride,
                    end - begin, d);
    float top = -FLT_MAX, sum = 0, out[D / kScoreLanes] = {};
    for (int key = 0; key < n_keys; key += kScoreSide) {
        __syncthreads();  // the last tile is done with
        load_score_tile(keys, static_cast<const Cache*>(task.k) + of_head + std::int64_t(key) * d,
                        d, n_keys - key, d);
        load_score_tile(values, static_cast<const Cache*>(task.v) + of_head + std::int64_t(key) * d,
                        d, n_keys - key, d);
        __syncthreads();

        float scores[kScoreKeys];
        make_scores(scores, queries, keys, d, scale, task.first + begin, key);
        float best = top;
#pragma unroll
        for (int j = 0; j < kScoreKeys; ++j)
            best = fmaxf(best, scores[j]);
        best = score_row_max(best);
        const float shrink = exp2f(top - best);
        top = best;
        float added = 0;
#pragma unroll
        for (int j = 0; j < kScoreKeys; ++j) {
            const float weight = exp2f(scores[j] - best);
            weights[row * weight_stride + lane + kScoreLanes * j] = weight;
            added += weight;
        }
        sum = sum * shrink + score_row_sum(added);
        __syncwarp();  // a row's threads are of one warp
#pragma unroll
        for (int c = 0; c < D / kScoreLanes; ++c)
            out[c] *= shrink;
        for (int j = 0; j < kScoreSide; ++j) {
            const float weight = weights[row * weight_stride + j];
            const float* value = values + j * score_stride(d) + lane;
#pragma unroll
            for (int c = 0; c < D / kScoreLanes; ++c)
                if (c * kScoreLanes < d)
                    out[c] += weight * value[c * kScoreLanes];
        }
    }

    if (row < end - begin) {
        T* to = static_cast<T*>(task.out) + std::int64_t(begin + row) * stride + head * d + lane;
#pragma unroll
        for (int c = 0; c < D / kScoreLanes; ++c)
            if (c * kScoreLanes < d)
                to[c * kScoreLanes] = narrow<T>(out[c] / sum);
    }
}

}  // namespace

void attention_f32(Queue queue, const AttentionTask& task) {
    with_activation_type(task.dtype, [&](auto tag) {
        with_activation_type(task.cache_type, [&](auto cache_tag) {
            using T = typename decltype(tag)::type;
            using Cache = typename decltype(cache_tag)::type;
            const auto run = [&](auto kernel) {
                launch(queue, kernel, dim3(unsigned(task.n_q), blocks_for(task.n, kScoreSide)),
                       dim3(kScoreThreads),
                       3 * score_tile_bytes(task.d_head) + kScoreSide * (kScoreSide + 1) * 4, task);
            };
            if (task.d_head <= 64)
                run(attention_f32_kernel<T, Cache, 64>);
            else if (task.d_head <= 128)
                run(attention_f32_kernel<T, Cache, 128>);
            else
                run(attention_f32_kernel<T, Cache, 256>);
        });
    });
}

}  // namespace cake::gpu
