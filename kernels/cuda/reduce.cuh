// Reductions over a warp and over a block, in an order that depends on the size of the block alone: the same numbers
// give the same bits. All threads get the result.
#pragma once

#include "kernels/cuda/kernel.h"

namespace cake::gpu {

inline constexpr int kWarp = 32;
// Threads. A kernel that may have as many says so in its bounds, or ptxas could take more registers than there are.
inline constexpr int kLargestBlock = 1024;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// T: float, double or an integer.
template <typename T>
__device__ __forceinline__ T warp_sum(T x) {
#pragma unroll
    for (int distance = kWarp / 2; distance > 0; distance /= 2)
        x += __shfl_xor_sync(kAllLanes, x, distance);
    return x;
}

template <typename T>
__device__ __forceinline__ T warp_max(T x) {
#pragma unroll
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
        const T other = __shfl_xor_sync(kAllLanes, x, distance);
        x = other > x ? other : x;
    }
    return x;
}

// Of a block of whole warps, one-dimensional. Warps first, then their results in order.
template <typename T>
__device__ T block_sum(T x) {
    CAKE_SHARED(T, of_warp, [kWarp]);
    x = warp_sum(x);
    __syncthreads();  // of_warp may still be read from the last call
    if (threadIdx.x % kWarp == 0)
        of_warp[threadIdx.x / kWarp] = x;
    __syncthreads();
    T sum = of_warp[0];
    for (unsigned w = 1; w < blockDim.x / kWarp; ++w)
        sum += of_warp[w];
    return sum;
}

template <typename T>
__device__ T block_max(T x) {
    CAKE_SHARED(T, of_warp, [kWarp]);
    x = warp_max(x);
    __syncthreads();
    if (threadIdx.x % kWarp == 0)
        of_warp[threadIdx.x / kWarp] = x;
    __syncthreads();
    T most = of_warp[0];
    for (unsigned w = 1; w < blockDim.x / kWarp; ++w)
        most = of_warp[w] > most ? of_warp[w] : most;
    return most;
}

template <typename T>
struct PrefixSum {
    T before, all;  // over the threads before this one; over all threads
};

// Of a block of whole warps, one-dimensional.
template <typename T>
__device__ PrefixSum<T> block_prefix_sum(T x) {
    CAKE_SHARED(T, of_warp, [kWarp]);
    const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    T up_to = x;  // over the warp's lanes up to this one
#pragma unroll
    for (int distance = 1; distance < kWarp; distance *= 2) {
        const T other = __shfl_up_sync(kAllLanes, up_to, unsigned(distance));
        up_to += lane >= distance ? other : T(0);
    }
    __syncthreads();  // of_warp may still be read from the last call
    if (lane == kWarp - 1)
        of_warp[warp] = up_to;
    __syncthreads();
    PrefixSum<T> sum{up_to - x, 0};
    for (int w = 0; w < int(blockDim.x) / kWarp; ++w) {
        sum.before += w < warp ? of_warp[w] : T(0);
        sum.all += of_warp[w];
    }
    return sum;
}

}  // namespace cake::gpu
