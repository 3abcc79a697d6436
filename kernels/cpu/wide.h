// Inner loops that profit from wide vectors. They are written once (wide_*.inc, on vectors of W
// floats) and compiled for AVX2 and for AVX-512; the processor at hand decides which run. Results
// of the two may differ in the last bits.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace cake {

// Of FewRowsLinear. Callers with more rows go group by group.
constexpr std::int64_t few_rows_at_once = 16;

// out[r, o] = x[r, :] . weight[o, :] + bias[o], for `rows` rows.
struct FewRowsLinear {
    const float* x;                // [rows, in]
    const void* weight;            // [n_out, in] of `dtype`; rows are whole blocks
    const float* bias;             // [n_out], or null
    float* out;                    // [rows, n_out]
    std::int64_t rows, in, n_out;  // rows <= few_rows_at_once
    DType dtype;                   // of weights: F32, BF16, F16 or quantised
};

// Causal attention of queries that share a KV head. Queries of all heads of the group are stacked
// into lanes, lane = row * group + head of the group; a lane is one element of a vector from begin
// to end, so what a row gives does not depend on its neighbours.
struct GroupAttention {
    const float* q;  // [n, n_q, d_head], from the group's first head
    float* out;      // the same
    const void* k;   // [first + n, d_head] of `dtype`
    const void* v;
    DType dtype;  // F32 or BF16
    std::int64_t first, n;
    int n_q, group, d_head;
};

struct WideKernels {
    const char* name;  // "avx2", "avx512"

    // Columns begin .. end of the result. Each weight is read once, for all rows. Row independent
    // bit for bit.
    void (*few_rows_linear)(const FewRowsLinear& task, std::int64_t begin, std::int64_t end);

    // n elements of a row, of any type of weights (whole blocks), as F32: the numbers that few_rows_linear multiplies
    // with.
    void (*widen)(DType dtype, const void* row, std::int64_t n, float* out);

    // out[i] = silu(gate[i]) * up[i], i < n.
    void (*silu_mul)(const float* gate, const float* up, float* out, std::int64_t n);

    // Lanes begin .. end, at most attention_lanes of them, with attention_scratch(d_head) floats of
    // scratch.
    void (*attention)(const GroupAttention& task, std::int64_t begin, std::int64_t end,
                      float* scratch);
    std::int64_t attention_lanes;
    std::int64_t (*attention_scratch)(int d_head);
};

// The widest that the processor has. ONEDNN_MAX_CPU_ISA=AVX2 in the environment forbids AVX-512
// here as it does in oneDNN.
const WideKernels& wide_kernels();

// Those that every processor runs.
const WideKernels& avx2_kernels();

}  // namespace cake
