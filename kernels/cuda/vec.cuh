// Conversions between float types, and vectors of elements that are loaded and stored at once.
#pragma once

#include "kernels/cuda/kernel.h"

namespace cake::gpu {

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
__device__ __forceinline__ float widen(f16 x) { return float_of_f16_bits(x.bits); }

// To nearest even.
template <typename T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) {
    return x;
}
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float x) {
    return bf16{bf16_bits(x)};
}
template <>
__device__ __forceinline__ f16 narrow<f16>(float x) {
    return f16{f16_bits(x)};
}

// Elements of T in 16 bytes.
template <typename T>
inline constexpr int kVector = 16 / int(sizeof(T));

// N elements of T, aligned as a whole.
template <typename T, int N>
struct alignas(N * sizeof(T)) Vec {
    T x[N];
};

// N elements from p, which is aligned to all of them, widened.
template <int N, typename T>
__device__ __forceinline__ void load(float (&out)[N], const T* p) {
    constexpr int step = N < kVector<T> ? N : kVector<T>;
#pragma unroll
    for (int i = 0; i < N; i += step) {
        const auto v = *reinterpret_cast<const Vec<T, step>*>(p + i);
#pragma unroll
        for (int j = 0; j < step; ++j)
            out[i + j] = widen(v.x[j]);
    }
}

// Rounds N elements to T and stores them at p, which is aligned to all of them.
template <int N, typename T>
__device__ __forceinline__ void store(T* p, const float (&values)[N]) {
    constexpr int step = N < kVector<T> ? N : kVector<T>;
#pragma unroll
    for (int i = 0; i < N; i += step) {
        Vec<T, step> v;
#pragma unroll
        for (int j = 0; j < step; ++j)
            v.x[j] = narrow<T>(values[i + j]);
        *reinterpret_cast<Vec<T, step>*>(p + i) = v;
    }
}

// For launchers: whether rows of so many bytes from each of the pointers can be read in vectors of 16 bytes.
template <typename... Pointers>
bool in_vectors(std::int64_t row_bytes, Pointers... p) {
    return ((std::uintptr_t(p) | ...) | std::uintptr_t(row_bytes)) % 16 == 0;
}

}  // namespace cake::gpu
