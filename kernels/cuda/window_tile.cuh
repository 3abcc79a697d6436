// Scores of the window's rows with tiles of keys: what both passes of window.cu share.
//
// A block takes up to kMostHeads query heads of a KV head and a span of keys, tile by tile. A warp takes one head and one
// slice of each tile, and makes scores of its 16 keys with a chunk of 32 rows. BF16 queries and keys go through tensor cores;
// any other pair is widened and multiplied in F32, with the scores in the same places.
#pragma once

#include <type_traits>

#include "kernels/cuda/kernel.h"
#include "kernels/cuda/reduce.cuh"
#include "kernels/cuda/vec.cuh"
#include "kernels/cuda/window.h"

namespace cake::gpu {

inline constexpr int kSliceKeys = 16;  // of a warp
inline constexpr int kSlices = 2;
inline constexpr int kTileKeys = kSlices * kSliceKeys;
inline constexpr int kSpanKeys = 16 * kTileKeys;  // of a block
static_assert(kSpanKeys == kSlices * window_part_keys && window_parts(kSpanKeys) == kSlices);
inline constexpr int kChunkRows = 32;
inline constexpr int kRowTiles = kChunkRows / 8;
inline constexpr int kMostHeads = 4;  // of a block
inline constexpr int kBuffers = 2;    // of key tiles: one is read while the next arrives

// What shared memory holds of queries and keys.
template <typename T, typename Cache>
using Staged =
    std::conditional_t<std::is_same_v<T, bf16> && std::is_same_v<Cache, bf16>, bf16, float>;

// How heads are dealt out to blocks, and rows lie in shared memory.
struct WindowGrid {
    int heads;        // of a block
    int head_blocks;  // of a KV head
    int padded;       // d_head, in whole tensor core steps; zeros beyond d_head
    int stride;  // elements from row to row: an odd number of 16 bytes, so that 8 rows lie in different banks
};

// The place of a warp, and of a lane's scores: scores[n][2 e + r] is of key `across` + 8 e of the slice and row
// 8 n + 2 `along` + r of the chunk.
struct WindowPlace {
    int kv_head, first_head, heads;  // of the block
    int head, slice;                 // of the warp; no head where head >= heads
    int across, along;               // of the lane
};

__device__ __forceinline__ WindowPlace window_place(const WindowTask& task,
                                                    const WindowGrid& grid) {
    const int group = task.n_q / task.n_kv, warp = int(threadIdx.x) / kWarp;
    const int first = int(blockIdx.y) % grid.head_blocks * grid.heads;
    WindowPlace p;
    p.kv_head = int(blockIdx.y) / grid.head_blocks;
    p.first_head = p.kv_head * group + first;
    p.heads = min(grid.heads, group - first);
    p.head = warp / kSlices;
    p.slice = warp % kSlices;
    p.across = int(threadIdx.x) % kWarp / 4;
    p.along = int(threadIdx.x) % 4;
    return p;
}

// `rows` rows of d elements to shared memory, by the whole block, with zeros up to `padded`. Row r begins at
// from + offset_of(r), and is zeros where that is negative.
template <bool Vectors, typename E, typename From, typename OffsetOf>
__device__ __forceinline__ void stage_rows(E* to, const WindowGrid& grid, int rows, int d,
                                           const From* from, OffsetOf offset_of) {
    constexpr int N = Vectors ? kVector<E> : 1;
    const int pieces = grid.padded / N;
    for (int i = int(threadIdx.x); i < rows * pieces; i += int(blockDim.x)) {
        const int row = i / pieces, c = i % pieces * N;
        const std::int64_t offset = offset_of(row);
        const bool valid = offset >= 0 && c < d;
        E* at = to + row * grid.stride + c;
        if constexpr (Vectors)
            cp_async16(at, valid ? from + offset + c : from, valid);
        else
            *at = narrow<E>(valid ? widen(from[offset + c]) : 0.0f);
    }
}

// Rows chunk * kChunkRows .. of the block's heads; zeros beyond the window.
template <bool Vectors, typename T, typename E>
__device__ __forceinline__ void stage_queries(const WindowTask& task, const WindowGrid& grid,
                                              const WindowPlace& p, int chunk, E* to) {
    stage_rows<Vectors>(
        to, grid, grid.heads * kChunkRows, task.d_head, static_cast<const T*>(task.q),
        [&](int r) -> std::int64_t {
            const int head = r / kChunkRows, row = chunk * kChunkRows + r % kChunkRows;
            if (head >= p.heads || row >= task.window)
                return -1;
            return (std::int64_t(row) * task.n_q + p.first_head + head) * task.d_head;
        });
}

// Calls visit(keys, first) for the tiles of keys begin .. end, each on its way while the one before is worked on. Keys from
// `end` on are zeros. What was staged before arrives with the first tile.
template <bool Vectors, typename Cache, typename E, typename Visit>
__device__ __forceinline__ void for_each_tile(const WindowTask& task, const WindowGrid& grid,
                                              const WindowPlace& p, int begin, int end, E* keys,
                                              Visit visit) {
    const Cache* k = static_cast<const Cache*>(task.k) + p.kv_head * task.capacity * task.d_head;
    const auto stage = [&](int first, E* to) {
        if (first < end)
            stage_rows<Vectors>(to, grid, kTileKeys, task.d_head, k, [&](int r) -> std::int64_t {
                return first + r < end ? std::int64_t(first + r) * task.d_head : -1;
            });
        cp_async_commit();
    };
    E *tile = keys, *next = keys + kTileKeys * grid.stride;
    stage(begin, tile);
    for (int first = begin; first < end; first += kTileKeys) {
        stage(first + kTileKeys, next);
        cp_async_wait<1>();
        __syncthreads();
        visit(tile, first);
        __syncthreads();  // the next but one tile goes where this one is
        E* const read = tile;
        tile = next;
        next = read;
    }
}

// q . k of 16 keys and 32 rows (WindowPlace says where they lie).
__device__ __forceinline__ void score_slice(const bf16* k, const bf16* q, const WindowGrid& grid,
                                            float (&scores)[kRowTiles][4]) {
    const int lane = int(threadIdx.x) % kWarp;
    k += lane % 16 * grid.stride + lane / 16 * 8;
    q += (lane / 16 * 8 + lane % 8) * grid.stride + lane / 8 % 2 * 8;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
        for (float& x : scores[n])
            x = 0;
    for (int c = 0; c < grid.padded; c += 16) {
        std::uint32_t of_keys[4];
        ldmatrix_x4(of_keys, k + c);
#pragma unroll
        for (int n = 0; n < kRowTiles; n += 2) {
            std::uint32_t of_rows[4];  // of two tiles of rows
            ldmatrix_x4(of_rows, q + n * 8 * grid.stride + c);
            mma_m16n8k16(scores[n], of_keys, {of_rows[0], of_rows[1]});
            mma_m16n8k16(scores[n + 1], of_keys, {of_rows[2], of_rows[3]});
        }
    }
}

__device__ __forceinline__ void score_slice(const float* k, const float* q, const WindowGrid& grid,
                                            float (&scores)[kRowTiles][4]) {
    const int lane = int(threadIdx.x) % kWarp;
    k += lane / 4 * grid.stride;
    q += lane % 4 * 2 * grid.stride;
#pragma unroll
    for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
        for (float& x : scores[n])
            x = 0;
    for (int c = 0; c < grid.padded; c += 4) {
        float keys[2][4];
        load(keys[0], k + c);
        load(keys[1], k + 8 * grid.stride + c);
#pragma unroll
        for (int n = 0; n < kRowTiles; ++n)
#pragma unroll
            for (int r = 0; r < 2; ++r) {
                float row[4];
                load(row, q + (n * 8 + r) * grid.stride + c);
#pragma unroll
                for (int e = 0; e < 2; ++e)
#pragma unroll
                    for (int i = 0; i < 4; ++i)
                        scores[n][2 * e + r] += keys[e][i] * row[i];
            }
    }
}

}  // namespace cake::gpu
