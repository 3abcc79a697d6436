#include "kernels/cuda/decode_evict.h"

#include <algorithm>

#include "kernels/cuda/decode_state.cuh"
#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.cuh"
#include "kernels/cuda/rank_key.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// Sorts n keys, ascending, by the whole block. Bitonic, in the form whose exchanges all put the lower key first: places from
// n on then need not be there, as if they held the highest keys.
__device__ void sort(std::uint64_t* keys, int n) {
    __syncthreads();
    for (int size = 2; size / 2 < n; size *= 2)  // runs of `size` are made of sorted halves
        for (int distance = size / 2; distance > 0; distance /= 2) {
            for (int i = int(threadIdx.x);; i += int(blockDim.x)) {
                const int low = 2 * i - (i & (distance - 1));
                if (low >= n)
                    break;
                // The first round compares with the mirror image, which makes two ascending halves one bitonic run.
                const int high = distance == size / 2 ? low ^ (size - 1) : low + distance;
                if (high < n && keys[high] < keys[low]) {
                    const std::uint64_t key = keys[low];
                    keys[low] = keys[high];
                    keys[high] = key;
                }
            }
            __syncthreads();
        }
}

// Of the block's threads, how many have a flag, and how many of those before this one.
struct Counted {
    int before, all;
};
__device__ Counted count(bool flag) {
    CAKE_SHARED(int, of_warp, [kWarp]);
    const int warp = int(threadIdx.x) / kWarp, lane = int(threadIdx.x) % kWarp;
    const unsigned votes = __ballot_sync(kAllLanes, flag);
    __syncthreads();  // of_warp may still be read from the last call
    if (lane == 0)
        of_warp[warp] = __popc(votes);
    __syncthreads();
    Counted out{__popc(votes & ((1u << lane) - 1)), 0};
    for (int w = 0; w < int(blockDim.x) / kWarp; ++w) {
        out.before += w < warp ? of_warp[w] : 0;
        out.all += of_warp[w];
    }
    return out;
}

// All that a slot holds. N elements at a time.
template <typename Cache, int N>
__device__ void move(const LayerSlots& slots, int d, int g, int to, int from) {
    const auto copy_row = [d](Cache* to_row, const Cache* from_row) {
        for (int i = 0; i < d; i += N)
            *reinterpret_cast<Vec<Cache, N>*>(to_row + i) =
                *reinterpret_cast<const Vec<Cache, N>*>(from_row + i);
    };
    copy_row(slots.k<Cache>(g, to), slots.k<Cache>(g, from));
    copy_row(slots.v<Cache>(g, to), slots.v<Cache>(g, from));
    slots.position(g, to) = slots.position(g, from);
    if (slots.has_running())
        slots.running(g, to) = slots.running(g, from);
}

// One token came, one goes: the usual case. The later entries of the list move up, and the slot that is free now
// follows them; nothing moves in memory.
template <typename Score>
__device__ void drop_worst(const LayerSlots& slots, const LayerState& state, int g, Score score) {
    std::uint64_t worst = 0;
    for (int i = int(threadIdx.x); i < state.candidates; i += int(blockDim.x))
        worst = max(worst, rank_key(score(i), std::uint32_t(i)));
    const int gone = int(index_of(block_max(worst))), last = state.length - 1;
    const int hole = slots.order(g, gone);
    for (int first = gone; first < last; first += int(blockDim.x)) {
        const int i = first + int(threadIdx.x);
        const int next = i < last ? slots.order(g, i + 1) : 0;
        __syncthreads();  // read before the thread after this one writes it; the first time, `hole` by all
        if (i < last)
            slots.order(g, i) = next;
    }
    __syncthreads();
    if (threadIdx.x == 0)
        slots.order(g, last) = hole;
}

// Slots 0 .. n are all in use; afterwards budget + window of the slots 0 .. budget + window are, and the one left over
// is where the next token goes. keys, list: work space for n entries.
template <typename Cache, int N, typename Score>
__device__ void drop_many(const LayerSlots& slots, const LayerState& state, int d, bool best_first,
                          int g, Score score, std::uint64_t* keys, std::int32_t* list) {
    const int n = state.length, m = state.candidates, kept = state.budget;
    const int left = n - (m - kept);  // entries that stay, the window's included
    const int thread = int(threadIdx.x), step = int(blockDim.x);

    // Candidates that stay come first in `keys`, those that go follow.
    for (int i = thread; i < m; i += step)
        keys[i] = rank_key(score(i), std::uint32_t(i));
    sort(keys, m);
    if (!best_first) {
        for (int i = thread; i < kept; i += step)
            keys[i] = index_of(keys[i]);
        sort(keys, kept);
    }
    for (int i = thread; i < left; i += step)
        list[i] = slots.order(g, i < kept ? int(index_of(keys[i])) : m + (i - kept));

    // Slots of those that go, ascending: the ones up to `left` are the holes. There is one hole more than entries beyond: of
    // the m - kept - 1 slots after `left`, as many hold survivors as there are holes below, less the next token's.
    std::uint64_t* const holes = keys + kept;
    for (int i = thread; i < m - kept; i += step)
        holes[i] = std::uint64_t(slots.order(g, int(index_of(holes[i]))));
    sort(holes, m - kept);  // and all have read the old list

    int filled = 0;
    for (int first = 0; first < left; first += step) {
        const int i = first + thread;
        const bool beyond = i < left && list[i] > left;
        const Counted others = count(beyond);
        if (beyond) {
            const int to = int(holes[filled + others.before]);
            move<Cache, N>(slots, d, g, to, list[i]);
            list[i] = to;
        }
        if (i < left)
            slots.order(g, i) = list[i];
        filled += others.all;
    }
    for (int i = left + thread; i < n; i += step)
        slots.order(g, i) = i == left ? int(holes[filled]) : i;
}

// Grid: KV heads of all layers and sequences, from first_block on. Block: a thread for each two of the most slots, up to 512.
// Work space: head_bytes a block, in shared memory where task.work is null. Where one token leaves, reads m scores and moves up to n entries
// of the list.
template <typename Cache, int N>
__global__ void __launch_bounds__(512)
    decode_evict_kernel(DecodeEvictTask task, CacheBatch kv, std::int64_t most_slots,
                        std::int64_t head_bytes, int first_block) {
    CAKE_DYNAMIC_SHARED(std::uint64_t, shared);
    const int n_kv = kv.format.n_kv, block = first_block + int(blockIdx.x);
    const int at = block / n_kv, g = block % n_kv;
    const LayerState state = layer_state(kv, at, task.window);
    if (state.candidates == 0)
        return;
    const LayerSlots slots(kv, at / kv.batch, at % kv.batch);
    const float* const row = task.rows == 0
                                 ? nullptr
                                 : task.scores.data + task.scores.offsets[at] +
                                       (task.rows == 1 ? 0 : std::int64_t(g) * state.candidates);
    const auto score = [&](int i) { return row ? row[i] : slots.running(g, slots.order(g, i)); };

    if (state.candidates - state.budget == 1 && !task.best_first) {
        drop_worst(slots, state, g, score);
        return;
    }
    std::uint64_t* keys = shared;
    if (task.work)
        keys = reinterpret_cast<std::uint64_t*>(task.work + blockIdx.x * head_bytes);
    drop_many<Cache, N>(slots, state, kv.format.d_head, task.best_first, g, score, keys,
                        reinterpret_cast<std::int32_t*>(keys + most_slots));
}

// After all KV heads of a layer have read its length. Grid and block: a thread for each (layer, sequence).
__global__ void shorten_kernel(CacheBatch kv, int window) {
    const int at = int(blockIdx.x * blockDim.x + threadIdx.x);
    if (at < kv.n_layers * kv.batch && layer_state(kv, at, window).candidates > 0)
        kv.lengths[at] = kv.budgets[at] + window;
}

}  // namespace

void decode_evict(Queue queue, const DecodeEvictTask& task, const CacheBatch& kv) {
    const int all = int(kv.heads()),
              at_once = task.work ? std::min(all, decode_evict_at_once) : all;
    const unsigned warps = unsigned(
        std::clamp<std::int64_t>((kv.most_slots() / 2 + kWarp - 1) / kWarp, 1, 512 / kWarp));
    const std::int64_t head_bytes = decode_evict_head_bytes(kv.most_slots());
    const std::size_t shared_bytes = task.work ? 0 : std::size_t(head_bytes);
    with_activation_type(kv.format.dtype, [&](auto cache_tag) {
        using Cache = typename decltype(cache_tag)::type;
        const auto run = [&](auto kernel) {
            for (int first = 0; first < all; first += at_once)
                launch(queue, kernel, dim3(unsigned(std::min(at_once, all - first))),
                       dim3(warps * kWarp), shared_bytes, task, kv, kv.most_slots(), head_bytes,
                       first);
        };
        const std::int64_t row_bytes = kv.format.d_head * std::int64_t(sizeof(Cache));
        if (in_vectors(row_bytes | kv.format.page_bytes | kv.format.v_offset, kv.format.pool))
            run(decode_evict_kernel<Cache, kVector<Cache>>);
        else
            run(decode_evict_kernel<Cache, 1>);
    });
    constexpr int block = 128;
    launch(queue, shorten_kernel, dim3(blocks_for(kv.n_layers * kv.batch, block)), dim3(block), 0,
           kv, task.window);
}

}  // namespace cake::gpu
