#include "kernels/cuda/elementwise.h"

#include <algorithm>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"

namespace cake::gpu {
namespace {

// Elements that a thread takes at once where rows allow it: 16 bytes of the narrow types.
constexpr int kAtOnce = 8;

// A row of a table becomes a row of activations. Grid: n rows. Block: d / N threads, at most 256.
// Moves d elements of the table and d of the output a row.
template <typename Table, typename T, int N>
__global__ void embed_kernel(const std::int32_t* __restrict__ ids, const Table* __restrict__ table,
                             std::int64_t first_row, std::int64_t rows, T* __restrict__ out,
                             int d) {
    const std::int64_t row = ids[blockIdx.x] - first_row;
    const bool mine = row >= 0 && row < rows;
    for (int i = int(threadIdx.x) * N; i < d; i += int(blockDim.x) * N) {
        float v[N] = {};
        if (mine)
            load(v, table + row * d + i);
        store(out + std::int64_t(blockIdx.x) * d + i, v);
    }
}

// Grid: (pieces of a row, n rows in steps of grid.y). Block: 256 threads, N elements each.
// Moves 2 ff elements in and ff out a row.
template <typename T, int N>
__global__ void silu_mul_kernel(const T* __restrict__ gate_up, T* __restrict__ out, std::int64_t n,
                                int ff) {
    const int i = int(blockIdx.x * blockDim.x + threadIdx.x) * N;
    if (i >= ff)
        return;
    for (std::int64_t r = blockIdx.y; r < n; r += gridDim.y) {
        float gate[N], up[N];
        load(gate, gate_up + 2 * r * ff + i);
        load(up, gate_up + (2 * r + 1) * ff + i);
#pragma unroll
        for (int j = 0; j < N; ++j)
            gate[j] = gate[j] / (1.0f + expf(-gate[j])) * up[j];
        store(out + r * ff + i, gate);
    }
}

}  // namespace

void embed(Queue queue, const std::int32_t* ids, DType table_type, const void* table,
           std::int64_t first_row, std::int64_t rows, DType dtype, void* out, std::int64_t n,
           int d) {
    with_weight_type(table_type, [&](auto table_tag) {
        with_activation_type(dtype, [&](auto tag) {
            using Table = typename decltype(table_tag)::type;
            using T = typename decltype(tag)::type;
            const auto run = [&](auto kernel, int elements) {
                const int warps = std::clamp((d / elements + kWarp - 1) / kWarp, 1, 8);
                launch(queue, kernel, dim3(unsigned(n)), dim3(unsigned(warps * kWarp)), 0, ids,
                       static_cast<const Table*>(table), first_row, rows, static_cast<T*>(out), d);
            };
            if (d % kAtOnce == 0 && in_vectors(0, table, out))
                run(embed_kernel<Table, T, kAtOnce>, kAtOnce);
            else
                run(embed_kernel<Table, T, 1>, 1);
        });
    });
}

void silu_mul(Queue queue, DType dtype, const void* gate_up, void* out, std::int64_t n, int ff) {
    with_activation_type(dtype, [&](auto tag) {
        using T = typename decltype(tag)::type;
        const auto run = [&](auto kernel, int elements) {
            constexpr int block = 256;
            constexpr std::int64_t most_rows = 65535;  // of a grid's second dimension
            launch(queue, kernel,
                   dim3(blocks_for(ff, block * elements), unsigned(std::min(n, most_rows))),
                   dim3(block), 0, static_cast<const T*>(gate_up), static_cast<T*>(out), n, ff);
        };
        if (ff % kAtOnce == 0 && in_vectors(0, gate_up, out))
            run(silu_mul_kernel<T, kAtOnce>, kAtOnce);
        else
            run(silu_mul_kernel<T, 1>, 1);
    });
}

}  // namespace cake::gpu
