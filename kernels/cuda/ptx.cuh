// Instructions that C++ has no words for. Their twins on the host, with the same names: tests/support/simt/tensor_core.h.
#pragma once

#include <cstdint>

#include "base/dtype.h"

namespace cake::gpu {

// 16 bytes from global to shared memory, both aligned to 16, in the background; zeros instead where not `valid`, and
// then nothing is read. Visible to the calling thread after the wait for its group, to others after a barrier too.
__device__ __forceinline__ void cp_async16(void* to, const void* from, bool valid = true) {
    const unsigned shared = unsigned(__cvta_generic_to_shared(to));
    const int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(from),
                 "r"(bytes)
                 : "memory");
}

// Closes the group of the copies since the last commit.
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits until at most the `Left` newest groups are under way.
template <int Left>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Left) : "memory");
}

// d += a b for a warp: a [16, 16] and b [16, 8] BF16, d [16, 8] F32. Fragments as PTX lays them out ("mma.m16n8k16"):
// with g = lane / 4 and t = lane % 4, a pair of columns per register,
//   a[0]: row g, columns 2t, 2t+1   a[1]: row g+8   a[2]: row g, columns 2t+8, 2t+9   a[3]: row g+8, the same columns
//   b[0]: rows 2t, 2t+1 of column g      b[1]: rows 2t+8, 2t+9
//   d[0], d[1]: row g, columns 2t, 2t+1  d[2], d[3]: row g+8
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const std::uint32_t (&a)[4],
                                             const std::uint32_t (&b)[2]) {
    asm volatile(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8 x 8 matrices of 16-bit elements from shared memory: lane i gives the address (aligned to 16) of row i % 8 of
// matrix i / 8; out[m] of a lane is row lane / 4, columns 2 (lane % 4) and the next, of matrix m.
__device__ __forceinline__ void ldmatrix_x4(std::uint32_t (&out)[4], const void* row) {
    const unsigned shared = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared)
                 : "memory");
}

// The same of the transposed matrices: out[m] is column lane / 4, rows 2 (lane % 4) and the next.
__device__ __forceinline__ void ldmatrix_x4_transposed(std::uint32_t (&out)[4], const void* row) {
    const unsigned shared = unsigned(__cvta_generic_to_shared(row));
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared)
                 : "memory");
}

// Conversions, to nearest even.
__device__ __forceinline__ std::uint16_t bf16_bits(float x) {
    std::uint16_t bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
// Two of them in a register, as fragments of mma_m16n8k16 hold a pair of columns.
__device__ __forceinline__ std::uint32_t bf16_pair(float first, float second) {
    std::uint32_t bits;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(second), "f"(first));
    return bits;
}
__device__ __forceinline__ std::uint16_t f16_bits(float x) {
    std::uint16_t bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}
__device__ __forceinline__ float float_of_f16_bits(std::uint16_t bits) {
    float x;
    asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(bits));
    return x;
}

// 2^x to a relative error of 2^-22, in one instruction; 0 where that is below 2^-126.
__device__ __forceinline__ float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

}  // namespace cake::gpu
