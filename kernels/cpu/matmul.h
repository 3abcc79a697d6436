// oneDNN's share of the CPU backend: f32 matrix products of many rows.
#pragma once

#include <cstdint>
#include <map>
#include <tuple>

#include <dnnl.hpp>

#include "kernels/cpu/cpu_backend.h"

namespace cake {

struct CpuBackend::Dnnl {
    // rows, in, out, elements from one row of the result to the next, with bias
    using MatmulShape = std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t, bool>;

    // out[r, o] = sum of x[r, i] * weight[o, i] (+ bias[o]) for r < rows; rows of `out` lie
    // `out_stride` apart. bias may be null. Uses as many threads as the calling thread's OpenMP
    // setting says.
    void matmul(const float* x, const float* weight, const float* bias, std::int64_t rows,
                std::int64_t in, std::int64_t n_out, float* out, std::int64_t out_stride);

    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    dnnl::stream stream{engine};
    std::map<MatmulShape, dnnl::matmul> primitives;
    Buffer widened;  // one panel of narrow weights as F32
};

}  // namespace cake
