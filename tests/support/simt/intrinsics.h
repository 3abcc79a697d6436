// CUDA's functions for the running thread, on the host.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "simt/machine.h"

#define threadIdx (::cake::simt::here.thread)
#define blockIdx (::cake::simt::here.block)
#define blockDim (::cake::simt::here.block_size)
#define gridDim (::cake::simt::here.grid_size)
#define CAKE_SIMT_AT std::source_location at = std::source_location::current()

namespace cake::simt {

template <typename T>
std::uint64_t bits(T x) {
    static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
    std::uint64_t out = 0;
    std::memcpy(&out, &x, sizeof(x));
    return out;
}
template <typename T>
T value_of(std::uint64_t bits) {
    T out;
    std::memcpy(&out, &bits, sizeof(out));
    return out;
}

template <typename T, typename F>
T atomic_update(T* at, F f) {
    T old;
    __atomic_load(at, &old, __ATOMIC_RELAXED);
    for (;;) {
        T next = f(old);
        if (__atomic_compare_exchange(at, &old, &next, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return old;
    }
}

}  // namespace cake::simt

// ---- barriers, votes, shuffles; `width` is a power of two, as CUDA wants it -----------------------------------------
inline void __syncthreads(CAKE_SIMT_AT) { cake::simt::sync_block(false, at); }
inline int __syncthreads_count(int p, CAKE_SIMT_AT) { return cake::simt::sync_block(p != 0, at); }
inline int __syncthreads_or(int p, CAKE_SIMT_AT) { return cake::simt::sync_block(p != 0, at) > 0; }
inline int __syncthreads_and(int p, CAKE_SIMT_AT) {
    return cake::simt::sync_block(p == 0, at) == 0;
}
inline void __syncwarp(unsigned mask = ~0u, CAKE_SIMT_AT) {
    cake::simt::meet(cake::simt::WarpOp::Sync, mask, 0, at);
}

inline unsigned __ballot_sync(unsigned mask, int p, CAKE_SIMT_AT) {
    const auto votes = cake::simt::meet(cake::simt::WarpOp::Ballot, mask, p != 0, at);
    mask &= cake::simt::lanes_of_warp();
    unsigned out = 0;
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1 && votes[lane])
            out |= 1u << lane;
    return out;
}
inline int __any_sync(unsigned mask, int p, CAKE_SIMT_AT) {
    return __ballot_sync(mask, p, at) != 0;
}
inline int __all_sync(unsigned mask, int p, CAKE_SIMT_AT) {
    return __ballot_sync(mask, !p, at) == 0;
}

template <typename T>
T __shfl_sync(unsigned mask, T x, int from, int width = 32, CAKE_SIMT_AT) {
    const int lane = cake::simt::here.lane;
    const auto all = cake::simt::meet(cake::simt::WarpOp::Shuffle, mask, cake::simt::bits(x), at);
    return cake::simt::value_of<T>(all[(lane & ~(width - 1)) | (from & (width - 1))]);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T x, int with, int width = 32, CAKE_SIMT_AT) {
    const int lane = cake::simt::here.lane, from = lane ^ with;
    const auto all =
        cake::simt::meet(cake::simt::WarpOp::ShuffleXor, mask, cake::simt::bits(x), at);
    const bool inside = (from & ~(width - 1)) <= (lane & ~(width - 1));
    return cake::simt::value_of<T>(all[inside ? from & 31 : lane]);
}
template <typename T>
T __shfl_up_sync(unsigned mask, T x, unsigned by, int width = 32, CAKE_SIMT_AT) {
    const int lane = cake::simt::here.lane;
    const auto all = cake::simt::meet(cake::simt::WarpOp::ShuffleUp, mask, cake::simt::bits(x), at);
    return cake::simt::value_of<T>(all[(lane & (width - 1)) >= int(by) ? lane - int(by) : lane]);
}
template <typename T>
T __shfl_down_sync(unsigned mask, T x, unsigned by, int width = 32, CAKE_SIMT_AT) {
    const int lane = cake::simt::here.lane;
    const auto all =
        cake::simt::meet(cake::simt::WarpOp::ShuffleDown, mask, cake::simt::bits(x), at);
    const bool inside = (lane & (width - 1)) + int(by) < width;
    return cake::simt::value_of<T>(all[inside ? lane + int(by) : lane]);
}

// ---- memory ---------------------------------------------------------------------------------------------------------
// Blocks run one after another, and fibers one at a time: what is written is seen.
inline void __threadfence() {}
inline void __threadfence_block() {}
template <typename T>
T __ldg(const T* p) {
    return *p;
}

template <typename T>
T atomicAdd(T* at, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T old) { return T(old + x); });
}
template <typename T>
T atomicSub(T* at, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T old) { return T(old - x); });
}
template <typename T>
T atomicMax(T* at, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T old) { return std::max<T>(old, x); });
}
template <typename T>
T atomicMin(T* at, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T old) { return std::min<T>(old, x); });
}
template <typename T>
T atomicOr(T* at, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T old) { return T(old | x); });
}
template <typename T>
T atomicExch(T* at, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T) { return x; });
}
template <typename T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> x) {
    return cake::simt::atomic_update(at, [&](T old) { return old == expected ? T(x) : old; });
}

// ---- arithmetic -----------------------------------------------------------------------------------------------------
using std::max;
using std::min;
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
inline float __expf(float x) { return std::exp(x); }
inline float __logf(float x) { return std::log(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __int2float_rn(int x) { return float(x); }
inline int __popc(unsigned x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(unsigned(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __brev(unsigned x) {
    unsigned out = 0;
    for (int i = 0; i < 32; ++i)
        out |= (x >> i & 1) << (31 - i);
    return out;
}
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }

// One rounding each: what the compiler may not fuse.
inline __attribute__((noinline)) float __fmul_rn(float a, float b) { return a * b; }
inline __attribute__((noinline)) float __fadd_rn(float a, float b) { return a + b; }
