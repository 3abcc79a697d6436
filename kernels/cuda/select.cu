// A radix select finds the k-th best key of each row, digit by digit from the top; the keys up to it are collected, in any
// order, and sorted. Keys hold their index, so no two are equal, and what is selected and its order depend on nothing else.
// Atomics are of integers, whose sums have one value in any order.
//
// 8 rows of 131,072 scores, 992 winners: 5 digits, 14 launches of an estimated 2 to 4 us each on an H100 (4 MB of scores from
// the L2 cache), so 0.05 ms.
#include "kernels/cuda/select.h"

#include <algorithm>
#include <bit>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/rank_key.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cake::gpu {
namespace {

using Key = std::uint64_t;  // rank_key

constexpr int kDigitBits = 11;
constexpr int kBins = 1 << kDigitBits;
static_assert(kBins == top_k_bins);
constexpr int kSelectBlock = 256;
constexpr int kBinsOfThread = kBins / kSelectBlock;
constexpr int kScoresOfBlock = 16 * kSelectBlock;
constexpr int kSortTile = 4096;  // keys that a block sorts in shared memory

// Of one row.
struct Selection {
    Key prefix;          // the k-th key's digits found so far
    std::uint32_t left;  // it is the left-th best of the keys that begin with them
    std::uint32_t taken;
};
static_assert(sizeof(Key) + sizeof(Selection) == 24);

struct Digit {
    int shift, bits;
};

// Grid: rows. Block: 256 threads.
__global__ void begin_selection_kernel(std::uint32_t k, Selection* __restrict__ selections,
                                       std::uint32_t* __restrict__ bins) {
    for (int i = int(threadIdx.x); i < kBins; i += kSelectBlock)
        bins[blockIdx.x * kBins + i] = 0;
    if (threadIdx.x == 0)
        selections[blockIdx.x] = {0, k, 0};
}

// Adds to the row's bins how many keys that begin with the prefix go on with each digit.
// Grid: (n / 4096, rows). Block: 256 threads. Shared: 8 KB. Reads rows n floats.
__global__ void count_digits_kernel(const float* __restrict__ score, int n, int index_bits,
                                    Digit digit, const Selection* __restrict__ selections,
                                    std::uint32_t* bins) {
    CAKE_SHARED(std::uint32_t, count, [kBins]);
    for (int i = int(threadIdx.x); i < kBins; i += kSelectBlock)
        count[i] = 0;
    __syncthreads();
    const float* row = score + std::int64_t(blockIdx.y) * n;
    const Key prefix = selections[blockIdx.y].prefix;
    const int begin = int(blockIdx.x) * kScoresOfBlock,
              end = min(n - begin, kScoresOfBlock) + begin;
    for (int i = begin + int(threadIdx.x); i < end; i += kSelectBlock) {
        const Key key = short_key(row[i], std::uint32_t(i), index_bits) >> digit.shift;
        if (key >> digit.bits == prefix)
            atomicAdd(&count[key & ((1u << digit.bits) - 1)], 1u);
    }
    __syncthreads();
    for (int i = int(threadIdx.x); i < kBins; i += kSelectBlock)
        if (count[i] > 0)
            atomicAdd(&bins[blockIdx.y * kBins + i], count[i]);
}

// Finds the k-th key's digit, and leaves bins of zeros. Grid: rows. Block: 256 threads, 8 bins each.
__global__ void pick_digit_kernel(Digit digit, Selection* selections, std::uint32_t* bins) {
    const Selection before = selections[blockIdx.x];
    std::uint32_t* const mine = bins + blockIdx.x * kBins + threadIdx.x * kBinsOfThread;
    std::uint32_t count[kBinsOfThread], sum = 0;
#pragma unroll
    for (int i = 0; i < kBinsOfThread; ++i) {
        sum += count[i] = mine[i];
        mine[i] = 0;
    }
    std::uint32_t lower = block_prefix_sum(sum).before;
    if (lower < before.left && before.left <= lower + sum) {  // one thread's
        int i = 0;
        while (lower + count[i] < before.left)
            lower += count[i++];
        selections[blockIdx.x] = {
            before.prefix << digit.bits | Key(int(threadIdx.x) * kBinsOfThread + i),
            before.left - lower, 0};
    }
}

// Keys up to the k-th, in any order. keys: [rows, padded]. Grid and block as count_digits. Reads rows n floats.
__global__ void collect_kernel(const float* __restrict__ score, int n, int index_bits,
                               Selection* selections, int padded, Key* __restrict__ keys) {
    const float* row = score + std::int64_t(blockIdx.y) * n;
    const Key last = selections[blockIdx.y].prefix;
    const int lane = int(threadIdx.x) % kWarp;
    for (int step = 0; step < kScoresOfBlock; step += kSelectBlock) {
        const std::int64_t i = std::int64_t(blockIdx.x) * kScoresOfBlock + step + threadIdx.x;
        const float x = i < n ? row[i] : 0.0f;
        const bool mine = i < n && short_key(x, std::uint32_t(i), index_bits) <= last;
        const unsigned votes = __ballot_sync(kAllLanes, mine);
        if (votes == 0)
            continue;
        std::uint32_t first = 0;
        if (lane == 0)
            first = atomicAdd(&selections[blockIdx.y].taken, std::uint32_t(__popc(votes)));
        first = __shfl_sync(kAllLanes, first, 0);
        const unsigned lower_lanes = (1u << lane) - 1;
        if (mine)
            keys[std::int64_t(blockIdx.y) * padded + first +
                 std::uint32_t(__popc(votes & lower_lanes))] = rank_key(x, std::uint32_t(i));
    }
}

// Bitonic sort, of runs of `first_run` keys up to `last_run`, but for the steps between keys further apart than a tile. Keys
// from `k` on are read as the last of all.
// Grid: (padded / tile, rows). Block: a thread for each two keys, at most 1024. Shared: the tile, 32 KB.
__global__ void __launch_bounds__(kLargestBlock)
    sort_near_kernel(Key* __restrict__ keys, int padded, int k, int first_run, int last_run) {
    CAKE_SHARED(Key, tile, [kSortTile]);
    const int length = min(padded, kSortTile), begin = int(blockIdx.x) * length;
    Key* const from = keys + std::int64_t(blockIdx.y) * padded + begin;
    for (int i = int(threadIdx.x); i < length; i += int(blockDim.x))
        tile[i] = begin + i < k ? from[i] : ~Key(0);
    for (int run = first_run; run <= last_run; run *= 2)
        for (int distance = min(run, length) / 2; distance > 0; distance /= 2) {
            __syncthreads();
            for (int pair = int(threadIdx.x); pair < length / 2; pair += int(blockDim.x)) {
                const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
                const bool ascending = ((begin + low) & run) == 0;
                const Key a = tile[low], b = tile[high];
                if ((a > b) == ascending) {
                    tile[low] = b;
                    tile[high] = a;
                }
            }
        }
    __syncthreads();
    for (int i = int(threadIdx.x); i < length; i += int(blockDim.x))
        from[i] = tile[i];
}

// One step between keys `distance` apart. Grid: (padded / 512, rows). Block: 256 threads, a pair each.
// Moves 16 rows padded bytes, in the L2 cache mostly.
__global__ void sort_far_kernel(Key* __restrict__ keys, int padded, int run, int distance) {
    const int pair = int(blockIdx.x * blockDim.x + threadIdx.x);
    Key* const row = keys + std::int64_t(blockIdx.y) * padded;
    const int low = 2 * pair - (pair & (distance - 1)), high = low + distance;
    const bool ascending = (low & run) == 0;
    const Key a = row[low], b = row[high];
    if ((a > b) == ascending) {
        row[low] = b;
        row[high] = a;
    }
}

// Grid: (k / 256, rows). Block: 256 threads.
__global__ void list_indices_kernel(const Key* __restrict__ keys, int padded, int k,
                                    std::int32_t* __restrict__ keep) {
    const std::int64_t i = std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < k)
        keep[std::int64_t(blockIdx.y) * k + i] =
            std::int32_t(index_of(keys[std::int64_t(blockIdx.y) * padded + i]));
}

void sort_keys(Queue queue, Key* keys, int rows, int padded, int k) {
    const int tile = std::min(padded, kSortTile);
    const dim3 tiles(unsigned(padded / tile), unsigned(rows));
    const dim3 sorters(unsigned(std::clamp(tile / 2, kWarp, kLargestBlock)));
    launch(queue, sort_near_kernel, tiles, sorters, 0, keys, padded, k, 2, tile);
    for (int run = 2 * tile; run <= padded; run *= 2) {
        for (int distance = run / 2; distance >= tile; distance /= 2)
            launch(queue, sort_far_kernel,
                   dim3(unsigned(padded / 2 / kSelectBlock), unsigned(rows)), dim3(kSelectBlock), 0,
                   keys, padded, run, distance);
        launch(queue, sort_near_kernel, tiles, sorters, 0, keys, padded, padded, run, run);
    }
}

int padded_length(int k) { return int(std::bit_ceil(unsigned(k))); }

}  // namespace

void top_k(Queue queue, const float* score, int rows, int n, int k, void* scratch,
           std::int32_t* keep) {
    const int padded = padded_length(k), index_bits = int(std::bit_width(unsigned(n - 1)));
    Key* const keys = static_cast<Key*>(scratch);
    auto* const selections = reinterpret_cast<Selection*>(keys + std::int64_t(rows) * padded);
    auto* const bins = reinterpret_cast<std::uint32_t*>(selections + rows);

    const dim3 block(kSelectBlock), each_row{unsigned(rows)};
    const dim3 scores(blocks_for(n, kScoresOfBlock), unsigned(rows));
    launch(queue, begin_selection_kernel, each_row, block, 0, k, selections, bins);
    for (int left = 32 + index_bits; left > 0;) {
        const int bits = std::min(kDigitBits, left);
        left -= bits;
        const Digit digit{left, bits};
        launch(queue, count_digits_kernel, scores, block, 0, score, n, index_bits, digit,
               selections, bins);
        launch(queue, pick_digit_kernel, each_row, block, 0, digit, selections, bins);
    }
    launch(queue, collect_kernel, scores, block, 0, score, n, index_bits, selections, padded, keys);
    sort_keys(queue, keys, rows, padded, k);
    launch(queue, list_indices_kernel, dim3(blocks_for(k, kSelectBlock), unsigned(rows)), block, 0,
           keys, padded, k, keep);
}

}  // namespace cake::gpu
