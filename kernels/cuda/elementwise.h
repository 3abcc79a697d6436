// Launchers of elementwise.cu: embedding and the gate of the MLP.
#pragma once

#include "kernels/cuda/launch.h"

namespace cake::gpu {

// out[i, :] = table[ids[i] - first_row, :], zeros where that is not in 0 .. rows. ids: [n]; table: [rows, d] of F32, BF16 or
// F16; out: [n, d] of F32 or BF16.
void embed(Queue queue, const std::int32_t* ids, DType table_type, const void* table,
           std::int64_t first_row, std::int64_t rows, DType dtype, void* out, std::int64_t n,
           int d);

// out[r, i] = silu(gate_up[r, i]) * gate_up[r, ff + i].  gate_up: [n, 2 ff], out: [n, ff], F32 or BF16.
void silu_mul(Queue queue, DType dtype, const void* gate_up, void* out, std::int64_t n, int ff);

}  // namespace cake::gpu
