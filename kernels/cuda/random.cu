#include "kernels/cuda/random.h"

#include <algorithm>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// base/random_matrix.h for the device, bit for bit: the product with 2^-24 is exact, so a fused multiply-add makes no
// difference.
__device__ __forceinline__ float element(const RandomMatrix& matrix, std::int64_t place) {
    std::uint64_t x = matrix.key + std::uint64_t(place) * random_step;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    x ^= x >> 31;
    return (float(unsigned(x >> 40)) * 0x1p-24f - 0.5f) * matrix.range;
}

// out[i, j] = element (row + i, column + j) of the matrix.
// Grid: (pieces of a row, n rows in steps of grid.y). Block: m / N threads, at most 256, N elements each.
// Writes n m elements; some 18 integer operations an element, two 64-bit products among them, take twice as long.
template <typename T, int N>
__global__ void random_kernel(RandomMatrix matrix, std::int64_t row, std::int64_t column,
                              T* __restrict__ out, std::int64_t n, std::int64_t m) {
    const std::int64_t j = (std::int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * N;
    if (j >= m)
        return;
    for (std::int64_t i = blockIdx.y; i < n; i += gridDim.y) {
        const std::int64_t place = (row + i) * matrix.columns + column + j;
        float v[N];
#pragma unroll
        for (int k = 0; k < N; ++k)
            v[k] = element(matrix, place + k);
        store(out + i * m + j, v);
    }
}

}  // namespace

void fill_random(Queue queue, const RandomMatrix& matrix, std::int64_t row, std::int64_t column,
                 DType dtype, void* out, std::int64_t n, std::int64_t m) {
    with_activation_type(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [&](auto kernel, int elements) {
            const std::int64_t warps_of_a_row = blocks_for(m, kWarp * elements);
            const int block = int(std::clamp<std::int64_t>(warps_of_a_row, 1, 8)) * kWarp;
            constexpr std::int64_t most_rows = 1024;  // of blocks, which fill any GPU
            launch(queue, kernel,
                   dim3(blocks_for(m, block * elements), unsigned(std::min(n, most_rows))),
                   dim3(unsigned(block)), 0, matrix, row, column, static_cast<T*>(out), n, m);
        };
        if (in_vectors(m * std::int64_t(sizeof(T)), out))
            run(random_kernel<T, kVector<T>>, kVector<T>);
        else
            run(random_kernel<T, 1>, 1);
    });
}

}  // namespace cake::gpu
