#include "kernels/cuda/decode_attention.h"

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// Slots that one block reads; also its threads. A result depends on where the splits are, so they are the same for all
// lengths, batches and page tables. At 256 a full cache has thousands of blocks, the partial sums are 3 % of what is read,
// and a cache of 1024 slots still keeps 5 blocks busy for each KV head.
constexpr int kSplit = decode_split;
constexpr int kWarps = kSplit / kWarp;

__host__ __device__ int splits_of(std::int64_t slots) { return int((slots + kSplit - 1) / kSplit); }

// What splits leave for combine_kernel, for each query head of each sequence: a sum of values weighted with
// exp(score - max), that max, and the sum of the weights.
struct Partials {
    __host__ __device__ Partials(float* floats, std::int64_t rows, int most_splits, int d_head)
        : most(most_splits),
          d(d_head),
          out(floats),
          max(out + rows * most * d),
          sum(max + rows * most) {}
    std::int64_t most;  // splits of a row
    int d;
    float *out, *max, *sum;  // [rows, most, d], [rows, most], [rows, most]
};

// How a warp reads rows of d elements: each for Lanes lanes, of which each takes Pieces vectors of N elements. H query
// heads share what is read.
template <typename Cache_, int N_, int Lanes_, int Pieces_, int H_>
struct Reading {
    using Cache = Cache_;
    static constexpr int N = N_, Lanes = Lanes_, Pieces = Pieces_, H = H_;
    static constexpr int kRows = kWarp / Lanes;  // side by side
    // Vectors of a lane in flight, so that two blocks keep 64 KiB of an SM's loads under way; half as many beside 8
    // heads, whose queries fill the registers.
    static constexpr int kLoads = (H == 8 ? 4 : 8) / Pieces > 0 ? (H == 8 ? 4 : 8) / Pieces : 1;
    static constexpr int kBatch = kLoads * kRows;  // rows that a warp has in flight
};

// Rows at .. at + kBatch: lane / Lanes is which of kRows, step j the next kRows. row_at: bytes from `base`.
template <typename R>
__device__ __forceinline__ void load_rows(
    Vec<typename R::Cache, R::N> (&rows)[R::kLoads][R::Pieces], const std::byte* base,
    const std::int64_t* row_at, int at, const int (&element)[R::Pieces]) {
    using Cache = typename R::Cache;
#pragma unroll
    for (int j = 0; j < R::kLoads; ++j) {
        const int row = at + j * R::kRows + int(threadIdx.x) % kWarp / R::Lanes;
        const auto* from = reinterpret_cast<const Cache*>(base + row_at[row]);
#pragma unroll
        for (int p = 0; p < R::Pieces; ++p)
            rows[j][p] = *reinterpret_cast<const Vec<Cache, R::N>*>(from + element[p]);
    }
}

// The sums of each of H values over the lanes of a row: that of value i goes to the row's lanes
// i Lanes / H .. (i + 1) Lanes / H. Each exchange halves the values that a lane still adds up.
template <typename R>
__device__ __forceinline__ float sums_of_row(float (&x)[R::H]) {
#pragma unroll
    for (int left = R::H / 2, distance = R::Lanes / 2; left > 0; left /= 2, distance /= 2) {
        const bool upper = threadIdx.x & unsigned(distance);
#pragma unroll
        for (int i = 0; i < left; ++i) {
            const float mine = upper ? x[left + i] : x[i], others = upper ? x[i] : x[left + i];
            x[i] = mine + __shfl_xor_sync(kAllLanes, others, distance);
        }
    }
#pragma unroll
    for (int distance = R::Lanes / R::H / 2; distance > 0; distance /= 2)
        x[0] += __shfl_xor_sync(kAllLanes, x[0], distance);
    return x[0];
}

// weights[row, h] = scores of rows 0 .. n against `heads` queries [heads, d]; a little beyond n there are others.
template <typename R, typename T>
__device__ void score_rows(const T* q, int heads, int d, const std::byte* base,
                           const std::int64_t* row_at, int n, float* weights) {
    const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % R::Lanes;
    const float scale = 1.0f / sqrtf(float(d));
    int element[R::Pieces];  // lanes beyond the row read its start, for queries of zero
    float query[R::H][R::Pieces * R::N] = {};
#pragma unroll
    for (int p = 0; p < R::Pieces; ++p) {
        const int at = (p * R::Lanes + lane) * R::N;
        element[p] = at < d ? at : 0;
#pragma unroll
        for (int h = 0; h < R::H; ++h) {
            if (h >= heads || at >= d)
                continue;
            float x[R::N];
            load(x, q + std::int64_t(h) * d + at);
#pragma unroll
            for (int i = 0; i < R::N; ++i)
                query[h][p * R::N + i] = x[i] * scale;
        }
    }

    for (int at = warp * R::kBatch; at < n; at += kWarps * R::kBatch) {
        Vec<typename R::Cache, R::N> keys[R::kLoads][R::Pieces];
        load_rows<R>(keys, base, row_at, at, element);
#pragma unroll
        for (int j = 0; j < R::kLoads; ++j) {
            float dot[R::H] = {};
#pragma unroll
            for (int p = 0; p < R::Pieces; ++p)
#pragma unroll
                for (int i = 0; i < R::N; ++i) {
                    const float key = widen(keys[j][p].x[i]);
#pragma unroll
                    for (int h = 0; h < R::H; ++h)
                        dot[h] += query[h][p * R::N + i] * key;
                }
            const float score = sums_of_row<R>(dot);
            const int row = at + j * R::kRows + int(threadIdx.x) % kWarp / R::Lanes;
            if (lane % (R::Lanes / R::H) == 0)
                weights[row * R::H + lane / (R::Lanes / R::H)] = score;
        }
    }
}

// sums[warp, h, :] = sum of weights[row, h] values[row, :] over the warp's rows below n.
template <typename R>
__device__ void add_values(const float* weights, int d, const std::byte* base,
                           const std::int64_t* row_at, int n, float* sums) {
    const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % R::Lanes;
    int element[R::Pieces];
#pragma unroll
    for (int p = 0; p < R::Pieces; ++p) {
        const int at = (p * R::Lanes + lane) * R::N;
        element[p] = at < d ? at : 0;
    }
    float sum[R::H][R::Pieces * R::N] = {};
    for (int at = warp * R::kBatch; at < n; at += kWarps * R::kBatch) {
        Vec<typename R::Cache, R::N> values[R::kLoads][R::Pieces];
        load_rows<R>(values, base, row_at, at, element);
#pragma unroll
        for (int j = 0; j < R::kLoads; ++j) {
            const int row = at + j * R::kRows + int(threadIdx.x) % kWarp / R::Lanes;
            float weight[R::H];
            load(weight, weights + row * R::H);
#pragma unroll
            for (int p = 0; p < R::Pieces; ++p)
#pragma unroll
                for (int i = 0; i < R::N; ++i) {
                    const float value = widen(values[j][p].x[i]);
#pragma unroll
                    for (int h = 0; h < R::H; ++h)
                        sum[h][p * R::N + i] += weight[h] * value;
                }
        }
    }
#pragma unroll
    for (int h = 0; h < R::H; ++h)
#pragma unroll
        for (int p = 0; p < R::Pieces; ++p) {
            float x[R::N];
#pragma unroll
            for (int i = 0; i < R::N; ++i) {
                x[i] = sum[h][p * R::N + i];
#pragma unroll
                for (int distance = R::Lanes; distance < kWarp; distance *= 2)
                    x[i] += __shfl_xor_sync(kAllLanes, x[i], distance);
            }
            const int at = (p * R::Lanes + lane) * R::N;
            if (int(threadIdx.x) % kWarp < R::Lanes && at < d)
                store(sums + (warp * R::H + h) * d + at, x);
        }
}

// Attention over the slots of one split of a KV head of a sequence, for the query heads that share it.
// Grid: (most splits, n_kv, batch); blocks beyond the length leave at once. Block: kSplit threads.
// Shared: 2 KiB of row addresses, H kSplit weights, H d kWarps sums: 23 KiB for 4 heads of 128.
// Moves 2 n_kv length d elements of the cache, which is all there is to it: 4 FLOP a byte for 4 query heads and BF16.
template <typename R, typename T>
__global__ void __launch_bounds__(kSplit, 2)
    split_kernel(DecodeAttentionTask task, int layer, CacheBatch kv, int most_splits) {
    CAKE_SHARED(std::int64_t, row_at, [kSplit]);
    CAKE_DYNAMIC_SHARED(float, weights);  // [kSplit, H]
    const int split = int(blockIdx.x), g = int(blockIdx.y), b = int(blockIdx.z);
    const int length = kv.lengths[layer * kv.batch + b], first = split * kSplit;
    if (first >= length)
        return;
    const int n = min(kSplit, length - first), d = kv.format.d_head;
    const int group = task.n_q / kv.format.n_kv;
    const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
    float* const sums = weights + kSplit * R::H;
    const Partials partials(task.partials, std::int64_t(kv.batch) * task.n_q, most_splits, d);
    const std::int64_t offset = task.offsets ? task.offsets[b] : -1;

    // Rows beyond the last are the last one again, with a weight of zero.
    const int slot = first + min(int(threadIdx.x), n - 1);
    const LayerSlots slots(kv, layer, b);
    row_at[threadIdx.x] =
        reinterpret_cast<const std::byte*>(slots.k<typename R::Cache>(g, slot)) - kv.format.pool;
    __syncthreads();

    for (int h0 = g * group; h0 < (g + 1) * group; h0 += R::H) {
        const int heads = min(R::H, (g + 1) * group - h0);
        const std::int64_t first_row = std::int64_t(b) * task.n_q + h0;  // of q and partials
        score_rows<R>(static_cast<const T*>(task.q) + first_row * d, heads, d, kv.format.pool,
                      row_at, n, weights);
        __syncthreads();
        if (warp < heads) {  // its head's softmax
            float largest = -INFINITY, sum = 0;
            for (int i = lane; i < n; i += kWarp)
                largest = fmaxf(largest, weights[i * R::H + warp]);
            largest = warp_max(largest);
            for (int i = lane; i < kSplit; i += kWarp) {
                const float weight = i < n ? expf(weights[i * R::H + warp] - largest) : 0.0f;
                weights[i * R::H + warp] = weight;
                sum += weight;
                if (offset >= 0 && i < n)
                    task.probs[offset + std::int64_t(h0 + warp) * length + first + i] = weight;
            }
            sum = warp_sum(sum);
            if (lane == 0) {
                partials.max[(first_row + warp) * most_splits + split] = largest;
                partials.sum[(first_row + warp) * most_splits + split] = sum;
            }
        }
        __syncthreads();
        add_values<R>(weights, d, kv.format.pool + kv.format.v_offset, row_at, n, sums);
        __syncthreads();
        for (int i = int(threadIdx.x); i < heads * d; i += kSplit) {
            float sum = 0;
#pragma unroll
            for (int w = 0; w < kWarps; ++w)
                sum += sums[w * R::H * d + i];
            partials.out[((first_row + i / d) * most_splits + split) * d + i % d] = sum;
        }
    }
}

// Softmax over all slots out of those over splits, in order: each is weighted by its share of the whole sum.
// Grid: (n_q, batch, blocks of kWarp columns). Block: kSplit threads. Shared: a weight for each of the most splits.
// Moves the d + 2 floats of each split and query head, and twice the probability rows where they are wanted.
template <typename T>
__global__ void __launch_bounds__(kSplit, 4)
    combine_kernel(DecodeAttentionTask task, int layer, CacheBatch kv, int most_splits) {
    CAKE_DYNAMIC_SHARED(float, weights);
    CAKE_SHARED(float, columns, [kWarps][kWarp]);
    const int h = int(blockIdx.x), b = int(blockIdx.y), d = kv.format.d_head;
    const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
    const int length = kv.lengths[layer * kv.batch + b], n = splits_of(length);
    const Partials partials(task.partials, std::int64_t(kv.batch) * task.n_q, most_splits, d);
    const std::int64_t row = std::int64_t(b) * task.n_q + h;
    const float* const max_of = partials.max + row * most_splits;
    const float* const sum_of = partials.sum + row * most_splits;

    float largest = -INFINITY, total = 0;
    for (int s = int(threadIdx.x); s < n; s += kSplit)
        largest = fmaxf(largest, max_of[s]);
    largest = block_max(largest);
    for (int s = int(threadIdx.x); s < n; s += kSplit) {
        weights[s] = expf(max_of[s] - largest);
        total += sum_of[s] * weights[s];
    }
    total = block_sum(total);  // and all have written their weights

    const int c = int(blockIdx.z) * kWarp + lane;
    float sum = 0;
    if (c < d) {
        const float* const out = partials.out + row * most_splits * d + c;
#pragma unroll 8
        for (int s = warp; s < n; s += kWarps)
            sum += weights[s] * out[std::int64_t(s) * d];
    }
    columns[warp][lane] = sum;
    __syncthreads();
    if (warp == 0 && c < d) {
        for (int w = 1; w < kWarps; ++w)
            sum += columns[w][lane];
        static_cast<T*>(task.out)[row * d + c] = narrow<T>(n > 0 ? sum / total : 0.0f);
    }

    const std::int64_t offset = task.offsets ? task.offsets[b] : -1;
    if (offset < 0)
        return;
    float* const probs = task.probs + offset + std::int64_t(h) * length;
    for (int slot = int(blockIdx.z) * kSplit + int(threadIdx.x); slot < length;
         slot += int(gridDim.z) * kSplit)
        probs[slot] *= weights[slot / kSplit] / total;
}

// Grid and block: a thread for each (layer, sequence).
__global__ void begin_step_kernel(CacheBatch kv) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at < kv.n_layers * kv.batch)
        ++kv.lengths[at];
    if (at < kv.batch)
        ++kv.positions[at];
}

int most_splits(const CacheBatch& kv) { return splits_of(kv.most_slots()); }

// Calls run(Reading of this group, and of heads of this size). As many heads share what is read as registers have room for; a
// larger group takes turns at a split, which then is in the cache.
template <typename Cache, int N, int Lanes, int Pieces, typename Run>
void with_heads(int group, Run run) {
    if constexpr (N * Lanes * Pieces <= 128)
        if (group > 4)
            return run(Reading<Cache, N, Lanes, Pieces, 8>());
    constexpr int H = Pieces == 1 ? 4 : 2;
    run(Reading<Cache, N, Lanes, Pieces, H>());
}

template <typename Cache, typename Run>
void with_reading(int d, bool aligned, int group, Run run) {
    constexpr int N = kVector<Cache>;
    const int vectors = d / N;
    if (!aligned || d % N != 0 || vectors > 64)
        with_heads<Cache, 2, kWarp, 8>(group, run);
    else if (vectors <= 8)
        with_heads<Cache, N, 8, 1>(group, run);
    else if (vectors <= 16)
        with_heads<Cache, N, 16, 1>(group, run);
    else if (vectors <= 32)
        with_heads<Cache, N, 32, 1>(group, run);
    else
        with_heads<Cache, N, 32, 2>(group, run);
}

}  // namespace

void begin_step(Queue queue, const CacheBatch& kv) {
    constexpr int block = 128;
    launch(queue, begin_step_kernel, dim3(blocks_for(kv.n_layers * kv.batch, block)), dim3(block),
           0, kv);
}

void decode_attention(Queue queue, const DecodeAttentionTask& task, int layer,
                      const CacheBatch& kv) {
    const int d = kv.format.d_head, group = task.n_q / kv.format.n_kv, most = most_splits(kv);
    const bool aligned =
        in_vectors(kv.format.page_bytes | kv.format.v_offset, task.q, kv.format.pool);
    with_activation_type(task.dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        with_activation_type(kv.format.dtype, [&](auto cache_tag) {
            using Cache = typename decltype(cache_tag)::type;
            with_reading<Cache>(d, aligned, group, [&](auto reading) {
                using R = decltype(reading);
                const int floats = kSplit * R::H + kWarps * R::H * d;
                launch(queue, split_kernel<R, T>,
                       dim3(unsigned(most), unsigned(kv.format.n_kv), unsigned(kv.batch)),
                       dim3(kSplit), std::size_t(floats) * sizeof(float), task, layer, kv, most);
            });
        });
        launch(queue, combine_kernel<T>,
               dim3(unsigned(task.n_q), unsigned(kv.batch), blocks_for(d, kWarp)), dim3(kSplit),
               std::size_t(most) * sizeof(float), task, layer, kv, most);
    });
}

}  // namespace cake::gpu
