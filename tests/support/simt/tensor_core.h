// Twins of kernels/cuda/ptx.cuh: same names, same results, in C++.
#pragma once

#include "base/dtype.h"
#include "simt/intrinsics.h"

namespace cake::gpu {

inline void cp_async16(void* to, const void* from, bool valid = true, CAKE_SIMT_AT) {
    simt::begin_copy(to, valid ? from : nullptr, at);
}
inline void cp_async_commit() { simt::commit_copies(); }
// The bytes are moved here, in code that the sanitizers watch.
template <int Left>
void cp_async_wait() {
    while (const simt::PendingCopy* copy = simt::next_due_copy(Left))
        *static_cast<uint4*>(copy->to) =
            copy->from ? *static_cast<const uint4*>(copy->from) : uint4{};
}

namespace detail {
inline float low_bf16(std::uint64_t pair) { return __uint_as_float(unsigned(pair) << 16); }
inline float high_bf16(std::uint64_t pair) { return __uint_as_float(unsigned(pair) & 0xffff0000u); }
}  // namespace detail

inline void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2],
                         CAKE_SIMT_AT) {
    float A[16][16], B[16][8];
    for (int r = 0; r < 4; ++r) {
        const auto all = simt::meet(simt::WarpOp::MatrixMultiply, ~0u, a[r], at);
        for (int lane = 0; lane < 32; ++lane) {
            const int row = lane / 4 + (r & 1) * 8, column = lane % 4 * 2 + (r >> 1) * 8;
            A[row][column] = detail::low_bf16(all[lane]);
            A[row][column + 1] = detail::high_bf16(all[lane]);
        }
    }
    for (int r = 0; r < 2; ++r) {
        const auto all = simt::meet(simt::WarpOp::MatrixMultiply, ~0u, b[r], at);
        for (int lane = 0; lane < 32; ++lane) {
            const int row = lane % 4 * 2 + r * 8, column = lane / 4;
            B[row][column] = detail::low_bf16(all[lane]);
            B[row + 1][column] = detail::high_bf16(all[lane]);
        }
    }
    const int lane = simt::here.lane;
    for (int r = 0; r < 4; ++r) {
        const int row = lane / 4 + (r >> 1) * 8, column = lane % 4 * 2 + (r & 1);
        float sum = 0;
        for (int k = 0; k < 16; ++k)
            sum += A[row][k] * B[k][column];
        d[r] += sum;
    }
}

namespace detail {
template <bool Transposed>
void load_matrices(std::uint32_t (&out)[4], const void* row, const std::source_location& at) {
    if (std::uintptr_t(row) % 16 != 0)
        simt::fail("ldmatrix of an address that is no multiple of 16", at);
    const auto rows = simt::meet(simt::WarpOp::LoadMatrix, ~0u, std::uintptr_t(row), at);
    const int lane = simt::here.lane, across = lane / 4, along = lane % 4 * 2;
    for (int m = 0; m < 4; ++m) {
        const auto element = [&](int i, int j) -> std::uint32_t {
            return reinterpret_cast<const std::uint16_t*>(rows[m * 8 + i])[j];
        };
        out[m] = Transposed ? element(along, across) | element(along + 1, across) << 16
                            : element(across, along) | element(across, along + 1) << 16;
    }
}
}  // namespace detail

inline void ldmatrix_x4(std::uint32_t (&out)[4], const void* row, CAKE_SIMT_AT) {
    detail::load_matrices<false>(out, row, at);
}
inline void ldmatrix_x4_transposed(std::uint32_t (&out)[4], const void* row, CAKE_SIMT_AT) {
    detail::load_matrices<true>(out, row, at);
}

inline std::uint16_t bf16_bits(float x) { return to_bf16(x).bits; }
inline std::uint32_t bf16_pair(float first, float second) {
    return bf16_bits(first) | std::uint32_t(bf16_bits(second)) << 16;
}
inline std::uint16_t f16_bits(float x) { return to_f16(x).bits; }
inline float float_of_f16_bits(std::uint16_t bits) { return to_float(f16{bits}); }
inline float exp2_approximate(float x) {
    const float y = std::exp2(x);
    return y < 0x1p-126f ? 0.0f : y;
}

}  // namespace cake::gpu
