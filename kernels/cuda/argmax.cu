#include "kernels/cuda/argmax.h"

#include <algorithm>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/rank_key.cuh"
#include "kernels/cuda/reduce.cuh"

namespace cake::gpu {
namespace {

// Grid: rows. Block: whole warps. Reads a row once: 128,256 logits are 513 KB for one multiprocessor, some 6 us (estimated),
// a part of them on each of several ranks accordingly less.
__global__ void __launch_bounds__(kLargestBlock)
    argmax_kernel(const float* __restrict__ x, std::int64_t n, std::uint32_t first,
                  std::uint64_t* best) {
    const float* const row = x + std::int64_t(blockIdx.x) * n;
    std::uint64_t least = ~std::uint64_t(0);  // no key of an index below 2^32 - 1
    for (std::int64_t i = threadIdx.x; i < n; i += blockDim.x) {
        const std::uint64_t key = rank_key(row[i], first + std::uint32_t(i));
        least = key < least ? key : least;
    }
    least = ~block_max(~least);
    if (threadIdx.x == 0)
        best[blockIdx.x] = least;
}

}  // namespace

void argmax(Queue queue, const float* x, std::int64_t rows, std::int64_t n, std::uint32_t first,
            std::uint64_t* best) {
    const auto warps =
        unsigned(std::clamp<std::int64_t>((n + kWarp - 1) / kWarp, 1, kLargestBlock / kWarp));
    launch(queue, argmax_kernel, dim3(unsigned(rows)), dim3(warps * kWarp), 0, x, n, first, best);
}

}  // namespace cake::gpu
