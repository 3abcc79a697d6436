#include "kernels/cuda/page_lists.h"

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cake::gpu {
namespace {

constexpr int kBlock = 256;

// Rows of `pieces` pieces of a token move from the scratch to slots. Grid: (pages, KV heads). Block: 256 threads, a piece of
// a key and of a value each. Moves 2 d_head elements and 8 bytes a slot and head, in and out.
template <typename Piece>
__global__ void store_tokens_kernel(StoreTask task, LayerTable to, int pieces) {
    const int head = int(blockIdx.y), page_tokens = to.format.page_tokens;
    const int begin = int(blockIdx.x) * page_tokens;
    const int slots_here = int(min(task.count + task.n_kept - begin, std::int64_t(page_tokens)));
    const LayerSlots slots(to);
    const auto token_of = [&](int slot) -> std::int64_t {
        return slot < task.count ? task.first + slot
                                 : task.keep[head * task.n_kept + slot - task.count];
    };
    const auto* keys = static_cast<const Piece*>(task.k);
    const auto* values = static_cast<const Piece*>(task.v);
    // Slots of a page follow each other.
    Piece* k = reinterpret_cast<Piece*>(slots.k_bytes(head, begin));
    Piece* v = reinterpret_cast<Piece*>(slots.v_bytes(head, begin));
#pragma unroll 4
    for (int i = int(threadIdx.x); i < slots_here * pieces; i += kBlock) {
        const std::int64_t from =
            (head * task.capacity + token_of(begin + i / pieces)) * pieces + i % pieces;
        k[i] = keys[from];
        v[i] = values[from];
    }
    for (int i = int(threadIdx.x); i < slots_here; i += kBlock) {
        const std::int64_t token = token_of(begin + i);
        slots.position(head, begin + i) = std::int32_t(token);
        if (task.running)
            slots.running(head, begin + i) = task.running[head * task.running_stride + token];
    }
}

// Grid: (entries, KV heads). Block: 256 threads, an entry each. Writes 4 bytes an entry.
__global__ void turn_order_kernel(LayerTable table, int first, int end, int length, int by) {
    const int i = first + int(blockIdx.x * blockDim.x + threadIdx.x), head = int(blockIdx.y);
    if (i < end)
        LayerSlots(table).order(head, i) = i < length ? (i + by) % length : i;
}

// Grid: (entries, KV heads). Block: 256 threads, an entry each. Moves 12 bytes an entry.
__global__ void list_positions_kernel(LayerTable table, int length, std::int32_t* out) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x), head = int(blockIdx.y);
    const LayerSlots slots(table);
    if (i < length)
        out[std::int64_t(head) * length + i] = slots.position(head, slots.order(head, i));
}

// Sorting without comparisons: positions of a head differ, so a position's rank is the number of positions below it. A range
// of positions at a time becomes a set of bits in shared memory, whose words are counted up.
constexpr int kSorters = 512, kWordsOfEach = 8, kRange = kSorters * kWordsOfEach * 32;

// Grid: KV heads. Block: 512 threads. Shared: 18.3 KB. Reads 8 bytes and writes 4 a slot, for each 131,072 positions that the
// highest one begins.
__global__ void sort_order_kernel(LayerTable table, int length) {
    CAKE_SHARED(unsigned, words, [kRange / 32]);
    CAKE_SHARED(int, before, [kSorters]);  // set bits before a thread's words
    const int head = int(blockIdx.x);
    const LayerSlots slots(table);
    int most = -1;
    for (int slot = int(threadIdx.x); slot < length; slot += kSorters)
        most = max(most, slots.position(head, slot));
    most = block_max(most);

    int ranked = 0;  // positions in ranges before
    for (std::int64_t range = 0; range <= most; range += kRange) {
        unsigned* mine = words + int(threadIdx.x) * kWordsOfEach;
        for (int i = 0; i < kWordsOfEach; ++i)
            mine[i] = 0;
        __syncthreads();
        for (int slot = int(threadIdx.x); slot < length; slot += kSorters) {
            const std::int64_t bit = slots.position(head, slot) - range;
            if (bit >= 0 && bit < kRange)
                atomicOr(&words[bit / 32], 1u << (bit % 32));
        }
        __syncthreads();
        int set = 0;
        for (int i = 0; i < kWordsOfEach; ++i)
            set += __popc(mine[i]);
        const auto sum = block_prefix_sum(set);
        before[threadIdx.x] = ranked + sum.before;
        __syncthreads();
        for (int slot = int(threadIdx.x); slot < length; slot += kSorters) {
            const std::int64_t bit = slots.position(head, slot) - range;
            if (bit < 0 || bit >= kRange)
                continue;
            const int word = int(bit / 32), begin = word / kWordsOfEach * kWordsOfEach;
            int rank = before[word / kWordsOfEach];
            for (int w = begin; w < word; ++w)
                rank += __popc(words[w]);
            rank += __popc(words[word] & ((1u << (bit % 32)) - 1));
            slots.order(head, rank) = slot;
        }
        ranked += sum.all;
        __syncthreads();
    }
}

template <typename Piece>
void store_by(Queue queue, const StoreTask& task, const LayerTable& to, std::int64_t row_bytes) {
    launch(
        queue, store_tokens_kernel<Piece>,
        dim3(blocks_for(task.count + task.n_kept, to.format.page_tokens), unsigned(to.format.n_kv)),
        dim3(kBlock), 0, task, to, row_bytes / std::int64_t(sizeof(Piece)));
}

}  // namespace

void store_tokens(Queue queue, const StoreTask& task, const LayerTable& to) {
    const PageFormat& f = to.format;
    const std::int64_t row_bytes = f.d_head * std::int64_t(f.dtype == DType::BF16 ? 2 : 4);
    const std::uintptr_t parts = std::uintptr_t(row_bytes | f.page_bytes | f.v_offset) |
                                 std::uintptr_t(task.k) | std::uintptr_t(task.v) |
                                 std::uintptr_t(f.pool);
    if (parts % sizeof(uint4) == 0)
        store_by<uint4>(queue, task, to, row_bytes);
    else if (parts % sizeof(unsigned) == 0)
        store_by<unsigned>(queue, task, to, row_bytes);
    else
        store_by<bf16>(queue, task, to, row_bytes);
}

void turn_order(Queue queue, const LayerTable& table, int first, int end, int length, int by) {
    launch(queue, turn_order_kernel,
           dim3(blocks_for(end - first, kBlock), unsigned(table.format.n_kv)), dim3(kBlock), 0,
           table, first, end, length, by);
}

void sort_order(Queue queue, const LayerTable& table, int length) {
    if (length > 0)
        launch(queue, sort_order_kernel, dim3(unsigned(table.format.n_kv)), dim3(kSorters), 0,
               table, length);
}

void list_positions(Queue queue, const LayerTable& table, int length, std::int32_t* out) {
    launch(queue, list_positions_kernel,
           dim3(blocks_for(length, kBlock), unsigned(table.format.n_kv)), dim3(kBlock), 0, table,
           length, out);
}

}  // namespace cake::gpu
