#include "kernels/cuda/norm.h"

#include <algorithm>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// out[r, :] = x[r, :] / sqrt(mean(x[r, :]^2) + eps) * weight; with Add, x += delta first, and what is normed is the sum
// as it was rounded into x.
// Grid: n rows. Block: d / N threads, at most 1024, in whole warps; N elements at a time. Shared: d floats, the row
// between its two passes; each thread reads there what it wrote itself.
// Moves n d elements three times with Add (x, delta, out) plus once more (x back), twice without; weight from the cache.
template <typename T, int N, bool Add>
__global__ void __launch_bounds__(kLargestBlock)
    rms_norm_kernel(T* x, const T* __restrict__ delta, const float* __restrict__ weight, float eps,
                    int d, T* out) {
    CAKE_DYNAMIC_SHARED(float, row);
    const std::int64_t first = std::int64_t(blockIdx.x) * d;
    const int step = int(blockDim.x) * N;

    float squares = 0;
    for (int i = int(threadIdx.x) * N; i < d; i += step) {
        float v[N];
        load(v, x + first + i);
        if constexpr (Add) {
            float more[N];
            load(more, delta + first + i);
#pragma unroll
            for (int j = 0; j < N; ++j)
                v[j] = widen(narrow<T>(v[j] + more[j]));
            store(x + first + i, v);
        }
#pragma unroll
        for (int j = 0; j < N; ++j) {
            squares += v[j] * v[j];
            row[i + j] = v[j];
        }
    }
    const float inverse_rms = 1.0f / sqrtf(block_sum(squares) / float(d) + eps);

    for (int i = int(threadIdx.x) * N; i < d; i += step) {
        float v[N], w[N];
        load(w, weight + i);
#pragma unroll
        for (int j = 0; j < N; ++j)
            v[j] = row[i + j] * inverse_rms * w[j];
        store(out + first + i, v);
    }
}

// x += delta. Grid and block: N elements a thread. Moves 3 n elements.
template <typename T, int N>
__global__ void add_kernel(T* x, const T* __restrict__ delta, std::int64_t n) {
    const std::int64_t i = (std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (i >= n)
        return;
    float v[N], more[N];
    load(v, x + i);
    load(more, delta + i);
#pragma unroll
    for (int j = 0; j < N; ++j)
        v[j] += more[j];
    store(x + i, v);
}

template <bool Add>
void launch_rms_norm(LaunchSite site, DType dtype, void* x, const void* delta, const float* weight,
                     float eps, std::int64_t n, int d, void* out) {
    with_activation_type(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [&](auto kernel, int elements) {
            const int warps =
                std::clamp((d / elements + kWarp - 1) / kWarp, 1, kLargestBlock / kWarp);
            launch(site, kernel, dim3(unsigned(n)), dim3(unsigned(warps * kWarp)),
                   std::size_t(d) * sizeof(float), static_cast<T*>(x), static_cast<const T*>(delta),
                   weight, eps, d, static_cast<T*>(out));
        };
        if (in_vectors(std::int64_t(d) * std::int64_t(sizeof(T)), x, delta, weight, out))
            run(rms_norm_kernel<T, kVector<T>, Add>, kVector<T>);
        else
            run(rms_norm_kernel<T, 1, Add>, 1);
    });
}

}  // namespace

void rms_norm(Queue queue, DType dtype, const void* x, const float* weight, float eps,
              std::int64_t n, int d, void* out) {
    launch_rms_norm<false>(queue, dtype, const_cast<void*>(x), nullptr, weight, eps, n, d, out);
}

void add_rms_norm(Queue queue, DType dtype, void* x, const void* delta, const float* weight,
                  float eps, std::int64_t n, int d, void* out) {
    launch_rms_norm<true>(queue, dtype, x, delta, weight, eps, n, d, out);
}

void add(Queue queue, DType dtype, void* x, const void* delta, std::int64_t n) {
    with_activation_type(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        constexpr int block = 256;
        const auto run = [&](auto kernel, int elements) {
            launch(queue, kernel, dim3(blocks_for(n, block * elements)), dim3(block), 0,
                   static_cast<T*>(x), static_cast<const T*>(delta), n);
        };
        if (in_vectors(n * std::int64_t(sizeof(T)), x, delta))
            run(add_kernel<T, kVector<T>>, kVector<T>);
        else
            run(add_kernel<T, 1>, 1);
    });
}

}  // namespace cake::gpu
