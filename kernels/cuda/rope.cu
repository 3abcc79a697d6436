#include "kernels/cuda/rope.h"

#include <algorithm>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/pages.cuh"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// Elements that a thread takes at once where heads allow it.
constexpr int kAtOnce = 8;
// d_head is at most twice this.
constexpr int kMostPairs = 256;

// cos and sin of a position for the pairs (j, j + d_head / 2), by the whole block. The product is made in F32, as the
// reference model makes it, and rounded once.
__device__ void make_rotation(float* cos_of, float* sin_of, int position, const RopeTask& task) {
    for (int j = int(threadIdx.x); j < task.d_head / 2; j += int(blockDim.x)) {
        const float angle = __fmul_rn(float(position), task.inv_freq[j]);
        cos_of[j] = cosf(angle) * task.scale;
        sin_of[j] = sinf(angle) * task.scale;
    }
    __syncthreads();
}

// Elements j .. j + N of a head and their partners, turned.
template <int N, typename From, typename To>
__device__ void rotate(const From* head, const float* cos_of, const float* sin_of, int half, int j,
                       To* out) {
    float a[N], b[N], turned_a[N], turned_b[N];
    load(a, head + j);
    load(b, head + j + half);
#pragma unroll
    for (int i = 0; i < N; ++i) {
        turned_a[i] = a[i] * cos_of[j + i] - b[i] * sin_of[j + i];
        turned_b[i] = b[i] * cos_of[j + i] + a[i] * sin_of[j + i];
    }
    store(out + j, turned_a);
    store(out + j + half, turned_b);
}

// One row of qkv, by the whole block: queries to q [n_q, d_head], key and value of KV head h to k_of(h) and v_of(h). A piece
// of work is N elements and their partners: of each query, then of each key; 2 N elements of each value.
template <typename T, typename Cache, int N, typename KeyOf, typename ValueOf>
__device__ void split_row(const RopeTask& task, const T* qkv, T* q, const float* cos_of,
                          const float* sin_of, KeyOf k_of, ValueOf v_of) {
    const int d = task.d_head, half = d / 2, pieces_of_head = half / N;
    const int pieces = (task.n_q + 2 * task.n_kv) * pieces_of_head;
    for (int piece = int(threadIdx.x); piece < pieces; piece += int(blockDim.x)) {
        const int head = piece / pieces_of_head, j = piece % pieces_of_head * N;
        const T* from = qkv + head * d;
        const int kv_head = head - task.n_q;
        if (kv_head < 0) {
            rotate<N>(from, cos_of, sin_of, half, j, q + head * d);
        } else if (kv_head < task.n_kv) {
            rotate<N>(from, cos_of, sin_of, half, j, k_of(kv_head));
        } else {
            Cache* to = v_of(kv_head - task.n_kv);
            float v[N];
            load(v, from + j);
            store(to + j, v);
            load(v, from + j + half);
            store(to + j + half, v);
        }
    }
}

// Grid: n rows. Block: a thread for each piece of work, at most 512. Moves (n_q + 2 n_kv) d_head elements a row in and out.
template <typename T, typename Cache, int N>
__global__ void rope_split_kernel(RopeTask task, std::int64_t first, Cache* __restrict__ k,
                                  Cache* __restrict__ v, std::int64_t capacity) {
    CAKE_SHARED(float, cos_of, [kMostPairs]);
    CAKE_SHARED(float, sin_of, [kMostPairs]);
    const std::int64_t row = blockIdx.x, position = first + row, d = task.d_head;
    make_rotation(cos_of, sin_of, int(position), task);
    const std::int64_t heads = task.n_q + 2 * task.n_kv;
    split_row<T, Cache, N>(
        task, static_cast<const T*>(task.qkv) + row * heads * d,
        static_cast<T*>(task.q) + row * task.n_q * d, cos_of, sin_of,
        [&](int h) { return k + (h * capacity + position) * d; },
        [&](int h) { return v + (h * capacity + position) * d; });
}

// Grid: the batch. Block and bytes as above.
template <typename T, typename Cache, int N>
__global__ void rope_append_kernel(RopeTask task, int layer, CacheBatch kv) {
    CAKE_SHARED(float, cos_of, [kMostPairs]);
    CAKE_SHARED(float, sin_of, [kMostPairs]);
    const int b = int(blockIdx.x), position = kv.positions[b];
    const int newest = kv.lengths[layer * kv.batch + b] - 1;
    make_rotation(cos_of, sin_of, position, task);
    const LayerSlots slots(kv, layer, b);
    const std::int64_t d = task.d_head, heads = task.n_q + 2 * task.n_kv;
    split_row<T, Cache, N>(
        task, static_cast<const T*>(task.qkv) + b * heads * d,
        static_cast<T*>(task.q) + b * task.n_q * d, cos_of, sin_of,
        [&](int h) { return slots.k<Cache>(h, slots.order(h, newest)); },
        [&](int h) { return slots.v<Cache>(h, slots.order(h, newest)); });
    for (int h = int(threadIdx.x); h < task.n_kv; h += int(blockDim.x)) {
        const int slot = slots.order(h, newest);
        slots.position(h, slot) = position;
        if (slots.has_running())  // nobody has attended to it yet
            slots.running(h, slot) = 0;
    }
}

// Calls run(tag of T, tag of the cache's type, std::integral_constant of N).
template <typename Run>
void with_types(const RopeTask& task, DType cache_type, bool aligned, Run run) {
    with_activation_type(task.dtype, [&](auto tag) {
        with_activation_type(cache_type, [&](auto cache_tag) {
            if (aligned && task.d_head / 2 % kAtOnce == 0)
                run(tag, cache_tag, std::integral_constant<int, kAtOnce>());
            else
                run(tag, cache_tag, std::integral_constant<int, 1>());
        });
    });
}

dim3 block_of(const RopeTask& task, int at_once) {
    const int pieces = (task.n_q + 2 * task.n_kv) * (task.d_head / 2 / at_once);
    return dim3(unsigned(std::clamp((pieces + kWarp - 1) / kWarp, 1, 16) * kWarp));
}

}  // namespace

void rope_split(Queue queue, const RopeTask& task, std::int64_t n, std::int64_t first,
                DType cache_type, void* k, void* v, std::int64_t capacity) {
    with_types(task, cache_type, in_vectors(0, task.qkv, task.q, k, v),
               [&](auto tag, auto cache_tag, auto at_once) {
                   using T = typename decltype(tag)::type;
                   using Cache = typename decltype(cache_tag)::type;
                   constexpr int N = decltype(at_once)::value;
                   launch(queue, rope_split_kernel<T, Cache, N>, dim3(unsigned(n)),
                          block_of(task, N), 0, task, first, static_cast<Cache*>(k),
                          static_cast<Cache*>(v), capacity);
               });
}

void rope_append(Queue queue, const RopeTask& task, int layer, const CacheBatch& kv) {
    const bool aligned =
        in_vectors(kv.format.page_bytes | kv.format.v_offset, task.qkv, task.q, kv.format.pool);
    with_types(task, kv.format.dtype, aligned, [&](auto tag, auto cache_tag, auto at_once) {
        using T = typename decltype(tag)::type;
        using Cache = typename decltype(cache_tag)::type;
        constexpr int N = decltype(at_once)::value;
        launch(queue, rope_append_kernel<T, Cache, N>, dim3(unsigned(kv.batch)), block_of(task, N),
               0, task, layer, kv);
    });
}

}  // namespace cake::gpu
