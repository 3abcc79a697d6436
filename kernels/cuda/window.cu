#include "kernels/cuda/window.h"

#include <algorithm>
#include <cmath>

#include "kernels/cuda/window_tile.cuh"

namespace cake::gpu {
namespace {

constexpr int kMostThreads = kMostHeads * kSlices * kWarp;
// A multiprocessor: ptxas takes as many registers as leave room for them.
template <typename E>
constexpr int kBlocksAtOnce = sizeof(E) == 2 ? 3 : 2;
constexpr float kLowest =
    -3.402823466e38f;  // finite: a row that sees no key has a sum of 0, not NaN

// First pass: of each row, the largest score and the sum of e^(score - largest) over each warp's keys.
// part_max, part_sum: [n_q, window, parts], parts = spans * kSlices.
// Grid: (spans of keys, n_kv * head_blocks, chunks of rows). Block: 64 threads a head. Shared: a chunk of queries a head
// and two tiles of keys, 52 KB for 4 heads of 128 in BF16.
// Reads K once for each 4 heads of a group and each 32 rows: n_kv S d_head elements where there are no more.
// 2 n_q w S d_head FLOPs and 1.5 n_q w S exponentials. Llama-3.1-8B, 131,072 tokens: 268 MB, 34 GFLOP; estimated for an H100:
// 0.09 ms for the bytes, 0.06 for the products, 0.08 for the exponentials; 0.12 in all where they overlap mostly.
template <typename T, typename Cache, bool Vectors>
__global__ void __launch_bounds__(kMostThreads, kBlocksAtOnce<Staged<T, Cache>>)
    window_sums_kernel(WindowTask task, WindowGrid grid, float scale, float* __restrict__ part_max,
                       double* __restrict__ part_sum) {
    using E = Staged<T, Cache>;
    CAKE_DYNAMIC_SHARED(E, queries);
    E* const keys = queries + grid.heads * kChunkRows * grid.stride;
    const WindowPlace p = window_place(task, grid);
    const int first_row = int(blockIdx.z) * kChunkRows;
    const int begin = int(blockIdx.x) * kSpanKeys, end = min(begin + kSpanKeys, task.n_tokens);

    float most[kRowTiles][2], sum[kRowTiles][2];
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            most[n][r] = kLowest;
            sum[n][r] = 0;
        }
    stage_queries<Vectors, T>(task, grid, p, int(blockIdx.z), queries);
    for_each_tile<Vectors, Cache>(task, grid, p, begin, end, keys, [&](const E* tile, int first) {
        float scores[kRowTiles][4];
        score_slice(tile + p.slice * kSliceKeys * grid.stride,
                    queries + p.head * kChunkRows * grid.stride, grid, scores);
        const int key = first + p.slice * kSliceKeys + p.across;
        // Row i is at position n_tokens - window + i, and sees no later key.
        const int newest = task.n_tokens - task.window + first_row + 2 * p.along;
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                const int ahead = newest + 8 * n + r - key;
                const float a = ahead >= 0 ? __fmul_rn(scores[n][r], scale) : -INFINITY;
                const float b = ahead >= 8 ? __fmul_rn(scores[n][2 + r], scale) : -INFINITY;
                const float more = fmaxf(most[n][r], fmaxf(a, b));
                sum[n][r] = sum[n][r] * expf(most[n][r] - more) + (expf(a - more) + expf(b - more));
                most[n][r] = more;
            }
    });

    const std::int64_t parts = std::int64_t(gridDim.x) * kSlices;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float of_warp = most[n][r];
            for (int distance = 4; distance < kWarp; distance *= 2)
                of_warp = fmaxf(of_warp, __shfl_xor_sync(kAllLanes, of_warp, distance));
            double total = double(sum[n][r] * expf(most[n][r] - of_warp));
            for (int distance = 4; distance < kWarp; distance *= 2)
                total += __shfl_xor_sync(kAllLanes, total, distance);
            const int row = first_row + 8 * n + 2 * p.along + r;
            if (p.across == 0 && p.head < p.heads && row < task.window) {
                const std::int64_t at =
                    (std::int64_t(p.first_head + p.head) * task.window + row) * parts +
                    std::int64_t(blockIdx.x) * kSlices + p.slice;
                part_max[at] = of_warp;
                part_sum[at] = total;
            }
        }
}

// Joins a row's parts: its largest score and 1 / sum. Grid: n_q * window rows. Block: 128 threads.
// Reads 12 bytes a part: 6.3 MB of 1024 rows at 131,072 tokens.
__global__ void join_parts_kernel(const float* __restrict__ part_max,
                                  const double* __restrict__ part_sum, int parts,
                                  float2* __restrict__ rows) {
    const std::int64_t first = std::int64_t(blockIdx.x) * parts;
    float most = kLowest;
    for (int i = int(threadIdx.x); i < parts; i += int(blockDim.x))
        most = fmaxf(most, part_max[first + i]);
    most = block_max(most);
    double total = 0;
    for (int i = int(threadIdx.x); i < parts; i += int(blockDim.x))
        total += part_sum[first + i] * double(expf(part_max[first + i] - most));
    total = block_sum(total);
    if (threadIdx.x == 0)
        rows[blockIdx.x] = make_float2(most, float(1.0 / total));
}

__device__ __forceinline__ float rounded(float a, DType to) {
    return to == DType::BF16  ? widen(narrow<bf16>(a))
           : to == DType::F16 ? widen(narrow<f16>(a))
                              : a;
}

// Second pass: moments of columns. rows: largest score and 1 / sum, [n_q, window]; part_entropy, part_variance:
// [n_q, parts], sums over each warp's columns.
// Sums of a and a^2 in double, whose difference is exact enough where a variance is 1e-9 of a squared mean.
// Grid: (spans of columns, n_kv * head_blocks). Block and shared as above.
// Reads K once for each 4 heads of a group, writes 2 n_q (S - w) floats. 2 n_q w S d_head FLOPs, and an exponential,
// a logarithm and three operations in double for each of n_q w S probabilities. Llama-3.1-8B, 131,072 tokens: 302 MB;
// estimated for an H100: 0.10 ms for the bytes, 0.06 for the products, 0.14 to issue the rest; 0.17 in all.
template <typename T, typename Cache, bool Vectors>
__global__ void __launch_bounds__(kMostThreads, kBlocksAtOnce<Staged<T, Cache>>)
    window_moments_kernel(WindowTask task, WindowGrid grid, float scale, DType round_to,
                          const float2* __restrict__ rows, float* __restrict__ mean,
                          float* __restrict__ variance, double* __restrict__ part_entropy,
                          double* __restrict__ part_variance) {
    using E = Staged<T, Cache>;
    CAKE_DYNAMIC_SHARED(E, queries);
    CAKE_SHARED(float2, row_of, [kMostHeads * kChunkRows]);
    E* const keys = queries + grid.heads * kChunkRows * grid.stride;
    const WindowPlace p = window_place(task, grid);
    const int w = task.window, columns = task.n_tokens - w;
    const int begin = int(blockIdx.x) * kSpanKeys, end = min(begin + kSpanKeys, columns);
    const int chunks = (w + kChunkRows - 1) / kChunkRows;
    const int head = p.first_head + p.head;

    const auto stage_chunk = [&](int chunk) {
        stage_queries<Vectors, T>(task, grid, p, chunk, queries);
        for (int i = int(threadIdx.x); i < grid.heads * kChunkRows; i += int(blockDim.x)) {
            const int h = i / kChunkRows, row = chunk * kChunkRows + i % kChunkRows;
            const bool real = h < p.heads && row < w;  // else a probability of 0
            row_of[i] = real ? rows[std::int64_t(p.first_head + h) * w + row] : make_float2(0, 0);
        }
    };
    double entropy = 0, variance_sum = 0;
    stage_chunk(0);
    for_each_tile<Vectors, Cache>(task, grid, p, begin, end, keys, [&](const E* tile, int first) {
        const int key = first + p.slice * kSliceKeys + p.across;
        double total[2] = {}, squares[2] = {};
        for (int chunk = 0; chunk < chunks; ++chunk) {
            if (chunks > 1) {  // a wide window's queries come anew for each tile
                __syncthreads();
                stage_chunk(chunk);
                cp_async_commit();
                cp_async_wait<0>();
                __syncthreads();
            }
            float scores[kRowTiles][4], a_ln_a[2] = {};
            score_slice(tile + p.slice * kSliceKeys * grid.stride,
                        queries + p.head * kChunkRows * grid.stride, grid, scores);
#pragma unroll
            for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
                for (int r = 0; r < 2; ++r) {
                    const float2 row = row_of[p.head * kChunkRows + 8 * n + 2 * p.along + r];
#pragma unroll
                    for (int e = 0; e < 2; ++e) {
                        const float score = __fmul_rn(scores[n][2 * e + r], scale);
                        const float a = rounded(expf(score - row.x) * row.y, round_to);
                        a_ln_a[e] += a * logf(a + 1e-10f);
                        total[e] += double(a);
                        squares[e] += double(a) * double(a);
                    }
                }
#pragma unroll
            for (int e = 0; e < 2; ++e)
                if (key + 8 * e < end)
                    entropy -= double(a_ln_a[e]);
        }
#pragma unroll
        for (int e = 0; e < 2; ++e)
            for (int distance = 1; distance < 4; distance *= 2) {
                total[e] += __shfl_xor_sync(kAllLanes, total[e], distance);
                squares[e] += __shfl_xor_sync(kAllLanes, squares[e], distance);
            }
        // Of the four lanes that know a pair of keys, the first two write one each.
        const int at = p.along == 0 ? key : key + 8;
        if (p.along < 2 && at < end && p.head < p.heads) {
            const double a = p.along == 0 ? total[0] : total[1];
            const double aa = p.along == 0 ? squares[0] : squares[1];
            const double more = aa - a * a / w;
            const double var = w > 1 && !(more < 0) ? more / (w - 1) : 0.0;
            mean[std::int64_t(head) * columns + at] = float(a / w);
            variance[std::int64_t(head) * columns + at] = float(var);
            variance_sum += var;
        }
    });

    entropy = warp_sum(entropy);
    variance_sum = warp_sum(variance_sum);
    if (p.head < p.heads && threadIdx.x % kWarp == 0) {
        const std::int64_t part = (std::int64_t(head) * gridDim.x + blockIdx.x) * kSlices + p.slice;
        part_entropy[part] = entropy;
        part_variance[part] = variance_sum;
    }
}

// sums[0], sums[1]: the parts of each head, then heads in order. Grid: 1. Block: up to 32 warps, a head each at a time.
// Shared: 16 bytes a head. Reads 16 bytes a part: 0.3 MB of 32 heads at 131,072 tokens.
__global__ void __launch_bounds__(kLargestBlock)
    sum_heads_kernel(const double* __restrict__ part_entropy,
                     const double* __restrict__ part_variance, int parts, int n_q,
                     double* __restrict__ sums) {
    CAKE_DYNAMIC_SHARED(double, of_head);
    const int lane = int(threadIdx.x) % kWarp, warps = int(blockDim.x) / kWarp;
    for (int h = int(threadIdx.x) / kWarp; h < n_q; h += warps) {
        double entropy = 0, variance = 0;
        for (int i = lane; i < parts; i += kWarp) {
            entropy += part_entropy[std::int64_t(h) * parts + i];
            variance += part_variance[std::int64_t(h) * parts + i];
        }
        entropy = warp_sum(entropy);
        variance = warp_sum(variance);
        if (lane == 0) {
            of_head[2 * h] = entropy;
            of_head[2 * h + 1] = variance;
        }
    }
    __syncthreads();
    if (threadIdx.x < 2) {
        double sum = 0;
        for (int h = 0; h < n_q; ++h)
            sum += of_head[2 * h + int(threadIdx.x)];
        sums[threadIdx.x] = sum;
    }
}

int spans(int keys) { return (keys + kSpanKeys - 1) / kSpanKeys; }

// Where in the scratch the parts lie.
struct WindowScratch {
    WindowScratch(const WindowTask& task, void* data)
        : row_parts(int(window_parts(task.n_tokens))),
          column_parts(int(window_parts(task.n_tokens - task.window))) {
        const std::int64_t rows = std::int64_t(task.n_q) * task.window;
        part_sum = static_cast<double*>(data);
        part_entropy = part_sum + rows * row_parts;
        part_variance = part_entropy + std::int64_t(task.n_q) * column_parts;
        this->rows =
            reinterpret_cast<float2*>(part_variance + std::int64_t(task.n_q) * column_parts);
        part_max = reinterpret_cast<float*>(this->rows + rows);
    }
    int row_parts, column_parts;
    double *part_sum, *part_entropy, *part_variance;
    float2* rows;
    float* part_max;
};

struct WindowLaunch {
    WindowGrid grid;
    dim3 block;
    std::size_t shared_bytes;
};

// As many heads a block as leave room for two blocks or more a multiprocessor.
WindowLaunch window_launch(const WindowTask& task, std::size_t element_bytes) {
    constexpr std::size_t most_shared = 96 * 1024;
    const int group = task.n_q / task.n_kv;
    WindowLaunch out{};
    out.grid.padded = (task.d_head + 15) / 16 * 16;
    out.grid.stride = out.grid.padded + int(16 / element_bytes);
    const auto bytes = [&](int heads) {
        return std::size_t(heads * kChunkRows + kBuffers * kTileKeys) *
               std::size_t(out.grid.stride) * element_bytes;
    };
    int heads = std::min(group, kMostHeads);
    while (heads > 1 && bytes(heads) > most_shared)
        --heads;
    out.grid.head_blocks = (group + heads - 1) / heads;
    out.grid.heads = (group + out.grid.head_blocks - 1) / out.grid.head_blocks;
    out.block = dim3(unsigned(out.grid.heads * kSlices * kWarp));
    out.shared_bytes = bytes(out.grid.heads);
    return out;
}

// Calls run(tag of T, tag of the cache's type, std::bool_constant of Vectors).
template <typename Run>
void with_types(const WindowTask& task, Run run) {
    with_activation_type(task.dtype, [&](auto tag) {
        with_activation_type(task.cache_type, [&](auto cache_tag) {
            using T = typename decltype(tag)::type;
            using Cache = typename decltype(cache_tag)::type;
            if constexpr (std::is_same_v<T, Cache>)
                if (in_vectors(task.d_head * std::int64_t(sizeof(T)), task.q, task.k))
                    return run(tag, cache_tag, std::true_type());
            run(tag, cache_tag, std::false_type());
        });
    });
}

}  // namespace

void window_moments(Queue queue, const WindowTask& task, DType round_to, void* scratch, float* mean,
                    float* variance, double* sums) {
    const WindowScratch parts(task, scratch);
    const float scale = 1.0f / std::sqrt(float(task.d_head));
    const unsigned rows = unsigned(task.n_q * task.window);
    const unsigned row_spans = unsigned(spans(task.n_tokens)),
                   column_spans = unsigned(spans(task.n_tokens - task.window));
    with_types(task, [&](auto tag, auto cache_tag, auto vectors) {
        using T = typename decltype(tag)::type;
        using Cache = typename decltype(cache_tag)::type;
        constexpr bool Vectors = decltype(vectors)::value;
        const WindowLaunch at = window_launch(task, sizeof(Staged<T, Cache>));
        const unsigned heads = unsigned(task.n_kv * at.grid.head_blocks);
        launch(queue, window_sums_kernel<T, Cache, Vectors>,
               dim3(row_spans, heads, blocks_for(task.window, kChunkRows)), at.block,
               at.shared_bytes, task, at.grid, scale, parts.part_max, parts.part_sum);
        launch(queue, join_parts_kernel, dim3(rows), dim3(128), 0, parts.part_max, parts.part_sum,
               parts.row_parts, parts.rows);
        launch(queue, window_moments_kernel<T, Cache, Vectors>, dim3(column_spans, heads), at.block,
               at.shared_bytes, task, at.grid, scale, round_to, parts.rows, mean, variance,
               parts.part_entropy, parts.part_variance);
    });
    launch(queue, sum_heads_kernel, dim3(1),
           dim3(unsigned(std::min(task.n_q * kWarp, kLargestBlock))),
           std::size_t(task.n_q) * 2 * sizeof(double), parts.part_entropy, parts.part_variance,
           parts.column_parts, task.n_q, sums);
}

}  // namespace cake::gpu
