// Inner loops of the window's statistics and of attention over pages, on wide vectors; as wide.h says of its own.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace cake {

// The window's queries of the heads that share a KV head, transposed: lane i of a head is row i of the window, and
// lanes from `window` on are zeros.
struct WindowHeads {
    const float* q;  // [group, d_head, lanes], times 1/sqrt(d_head)
    const void* k;   // [n_tokens, d_head] of `dtype`
    DType dtype;     // F32 or BF16
    std::int64_t n_tokens;
    int window, lanes, group, d_head;
};

// What the first pass leaves to the second.
struct WindowRows {
    const float* max;      // [group, lanes]: largest score of a row
    const float* inverse;  // [group, lanes]: 1 / sum of e^(score - max), 0 in lanes that are no row
};

// What the second pass makes; row h of mean and variance lies h * columns behind the first.
struct WindowMoments {
    float* mean;
    float* variance;
    std::int64_t columns;
    double* entropy;       // [group]: - sum of A ln(A + 1e-10) over the block
    double* variance_sum;  // [group]
};

// A chunk's queries of the heads that share a KV head, over the keys up to their own positions.
struct CausalHeads {
    const float* q;  // [n, n_q, d_head], from the group's first head
    const void* k;   // [first + n, d_head] of `dtype`
    DType dtype;     // F32 or BF16
    std::int64_t first, n;
    int n_q, group, d_head;
};

// Slots of a page, one after the other.
struct SlotRun {
    const void* k;  // [n, d_head]
    const void* v;
    int n;
};

// Attention of the queries that share a KV head over some of its slots.
struct DecodeSplit {
    const float* q;  // [group, d_head], times 1/sqrt(d_head)
    const SlotRun* runs;
    int n_runs, group, d_head;
    DType dtype;  // F32 or BF16
};

struct DecodePartial {
    float* weights;  // [group, kDecodeSplit]: e^(score - max) by slot
    float* out;      // [group, d_head]: sum of weight * value
    float* max;      // [group]
    float* sum;      // [group]: of the weights
};

// Slots are attended to in pieces of this many, combined in order: results depend neither on the number of threads nor
// on what else is in the batch.
inline constexpr int kDecodeSplit = 512;

struct CacheKernels {
    const char* name;  // "avx2", "avx512"
    int lane_multiple;

    // Largest score and sum of e^(score - max) of each row, over keys begin .. end that it may see.
    // max: [group, lanes], sum: [group, lanes]. scratch: window_scratch(lanes, d_head) floats.
    void (*window_sums)(const WindowHeads& heads, std::int64_t begin, std::int64_t end,
                        float* scratch, float* max, double* sum);

    // Moments of columns begin .. end <= n_tokens - window, over the probabilities rounded to `round_to`.
    void (*window_moments)(const WindowHeads& heads, const WindowRows& rows, std::int64_t begin,
                           std::int64_t end, DType round_to, float* scratch,
                           const WindowMoments& out);
    std::int64_t (*window_scratch)(int lanes, int d_head);

    // Largest score, and sum of e^(score - max), of rows begin .. end.  max, sum: [group, n].
    // scratch: column_scratch(d_head) floats.
    void (*row_sums)(const CausalHeads& heads, std::int64_t begin, std::int64_t end, float* scratch,
                     float* max, double* sum);
    // Adds the probabilities of columns begin .. end, `begin` a multiple of column_block: rows one after another.
    // max, inverse (1 / sum): [group, n]. The sums of head h lie h * stride behind the first.
    void (*column_sums)(const CausalHeads& heads, const float* max, const float* inverse,
                        std::int64_t begin, std::int64_t end, float* scratch, float* sums,
                        std::int64_t stride);
    std::int64_t (*column_scratch)(int d_head);
    int column_block;

    void (*decode_split)(const DecodeSplit& split, const DecodePartial& out);
};

// Of the same instruction set as wide_kernels().
const CacheKernels& cache_kernels();
const CacheKernels& avx2_cache_kernels();

}  // namespace cake
