// Tiles of BF16 rows in shared memory, and the fragments that a warp's tensor core takes of them (ptx.cuh).
//
// A tile has rows of D elements, a multiple of 16, and a stride of 8 more: 16 bytes, an odd number of times, so that
// eight rows that ldmatrix reads at once lie in different banks.
#pragma once

#include <bit>
#include <cmath>
#include <type_traits>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/reduce.cuh"

namespace cake::gpu {

template <int D>
inline constexpr int kTileStride = D + 8;

// Threads that copy a row, 8 elements each: a power of two, so that a thread stays in its column.
template <int D>
inline constexpr int kRowThreads = int(std::bit_ceil(unsigned(D / 8)));

template <int D>
constexpr std::size_t tile_bytes(int rows) {
    return std::size_t(rows) * kTileStride<D> * sizeof(bf16);
}

// Starts copying Rows rows, by all Threads of the block: row r is from[r * stride ..], d elements of it, a multiple of 8;
// zeros beyond d and in rows from `rows` on, which are not read.
template <int D, int Rows, int Threads>
__device__ __forceinline__ void load_tile(bf16* tile, const bf16* __restrict__ from, int stride,
                                          int rows, int d) {
    constexpr int lanes = kRowThreads<D>, at_once = Threads / lanes;
    static_assert(Rows % at_once == 0 || at_once % Rows == 0);
    const int column = int(threadIdx.x) % lanes * 8, first = int(threadIdx.x) / lanes;
    if (column >= D || first >= Rows)  // no barrier in here
        return;
    const bf16* source = column < d ? from + std::int64_t(first) * stride + column : from;
    const std::int64_t step = column < d ? std::int64_t(at_once) * stride : 0;
    bf16* to = tile + first * kTileStride<D> + column;
    const int rows_here = column < d ? rows - first : 0;
#pragma unroll 4
    for (int row = 0; row < Rows; row += at_once) {
        cp_async16(to, source, row < rows_here);
        to += at_once * kTileStride<D>;
        source += step;
    }
}

// The A fragment of rows row .. row + 16, columns column .. column + 16.
template <int D>
__device__ __forceinline__ void load_a(std::uint32_t (&a)[4], const bf16* tile, int row,
                                       int column) {
    const int lane = int(threadIdx.x) % kWarp;
    ldmatrix_x4(a, tile + (row + lane % 16) * kTileStride<D> + column + lane / 16 * 8);
}

// scores[m][j] = products of rows row + 16 m .. of `a` with rows key + 8 j .. of `b`, laid out as d of mma_m16n8k16:
// lane 4 g + t has rows g and g + 8 and columns 2 t and 2 t + 1.
template <int D, int M, int N>
__device__ __forceinline__ void multiply_rows(float (&scores)[M][N][4], const bf16* a, int row,
                                              const bf16* b, int key) {
    const int lane = int(threadIdx.x) % kWarp;
    const bf16* keys = b + (key + lane / 16 * 8 + lane % 8) * kTileStride<D> + lane / 8 % 2 * 8;
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int j = 0; j < N; ++j)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                scores[m][j][i] = 0;
#pragma unroll
    for (int c = 0; c < D; c += 16) {
        std::uint32_t rows[M][4];
#pragma unroll
        for (int m = 0; m < M; ++m)
            load_a<D>(rows[m], a, row + m * 16, c);
#pragma unroll
        for (int j = 0; j < N; j += 2) {
            std::uint32_t both[4];
            ldmatrix_x4(both, keys + j * 8 * kTileStride<D> + c);
            const std::uint32_t low[2] = {both[0], both[1]}, high[2] = {both[2], both[3]};
#pragma unroll
            for (int m = 0; m < M; ++m) {
                mma_m16n8k16(scores[m][j], rows[m], low);
                mma_m16n8k16(scores[m][j + 1], rows[m], high);
            }
        }
    }
}

// out[m] += weights[m] [16, 8 N] times the first 8 N rows of `values` [8 N, D]. The weights lie as multiply_rows leaves them;
// they are rounded to BF16.
template <int D, int M, int N>
__device__ __forceinline__ void add_weighted_rows(float (&out)[M][D / 8][4],
                                                  const float (&weights)[M][N][4],
                                                  const bf16* values) {
    const int lane = int(threadIdx.x) % kWarp;
    const bf16* rows = values + lane % 16 * kTileStride<D> + lane / 16 * 8;
#pragma unroll
    for (int j = 0; j < N; j += 2) {
        std::uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; ++m) {
            a[m][0] = bf16_pair(weights[m][j][0], weights[m][j][1]);
            a[m][1] = bf16_pair(weights[m][j][2], weights[m][j][3]);
            a[m][2] = bf16_pair(weights[m][j + 1][0], weights[m][j + 1][1]);
            a[m][3] = bf16_pair(weights[m][j + 1][2], weights[m][j + 1][3]);
        }
#pragma unroll
        for (int c = 0; c < D; c += 16) {
            std::uint32_t both[4];
            ldmatrix_x4_transposed(both, rows + j * 8 * kTileStride<D> + c);
            const std::uint32_t low[2] = {both[0], both[1]}, high[2] = {both[2], both[3]};
#pragma unroll
            for (int m = 0; m < M; ++m) {
                mma_m16n8k16(out[m][c / 8], a[m], low);
                mma_m16n8k16(out[m][c / 8 + 1], a[m], high);
            }
        }
    }
}

// -infinity where the key comes after the row: element [0][0][0] is that of row position `position` and key `key`.
template <int M, int N>
__device__ __forceinline__ void hide_later_keys(float (&scores)[M][N][4], int position, int key) {
    const int lane = int(threadIdx.x) % kWarp;
    // Of the lane's first row and first key.
    const int ahead = position - key + lane / 4 - lane % 4 * 2;
#pragma unroll
    for (int m = 0; m < M; ++m)
#pragma unroll
        for (int j = 0; j < N; ++j)
#pragma unroll
            for (int i = 0; i < 4; ++i)
                if (ahead + m * 16 + i / 2 * 8 < j * 8 + i % 2)
                    scores[m][j][i] = -INFINITY;
}

// Over the four lanes that share a row of a fragment.
__device__ __forceinline__ float row_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(kAllLanes, x, 1));
    return fmaxf(x, __shfl_xor_sync(kAllLanes, x, 2));
}
template <typename T>
__device__ __forceinline__ T row_sum(T x) {
    x += __shfl_xor_sync(kAllLanes, x, 1);
    return x + __shfl_xor_sync(kAllLanes, x, 2);
}

// Calls run(std::integral_constant) of d_head, rounded up to the next width of tiles: for d_head from 1 to 256.
template <typename Run>
void with_tile_width(int d_head, Run run) {
    if (d_head <= 16)
        run(std::integral_constant<int, 16>());
    else if (d_head <= 32)
        run(std::integral_constant<int, 32>());
    else if (d_head <= 64)
        run(std::integral_constant<int, 64>());
    else if (d_head <= 80)
        run(std::integral_constant<int, 80>());
    else if (d_head <= 96)
        run(std::integral_constant<int, 96>());
    else if (d_head <= 128)
        run(std::integral_constant<int, 128>());
    else
        run(std::integral_constant<int, 256>());
}

}  // namespace cake::gpu
