// Reductions over a warp and over a block, in an order that depends on the size of the block alone: the same numbers
// give the same bits. All threads get the result.
#pragma once

#include "kernels/cuda/kernel.h"

namespace cake::gpu {

inline constexpr int kWarp = 32;
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

}  // namespace cake::gpu
