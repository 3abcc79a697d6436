#include "kernels/cpu/wide_cache.h"

#include <cmath>
#include <cstring>
#include <limits>

// As wide.cpp does it: the same text for two instruction sets. All of it is local to this file.
namespace cake {
namespace {
namespace avx2 {
constexpr int kVectorBytes = 32;
constexpr int kTileKeys = 4;  // 4 x 2 accumulators hide the latency of a multiply-add
constexpr const char* kName = "avx2";
#include "kernels/cpu/wide_simd.inc"
#include "kernels/cpu/wide_cache_simd.inc"
#include "kernels/cpu/wide_window.inc"
#include "kernels/cpu/wide_decode.inc"
constexpr CacheKernels table = {kName,          W,            window_sums,   window_moments,
                                window_scratch, decode_split, decode_scratch};
}  // namespace avx2

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
namespace avx512 {
constexpr int kVectorBytes = 64;
constexpr int kTileKeys = 8;
constexpr const char* kName = "avx512";
#include "kernels/cpu/wide_simd.inc"
#include "kernels/cpu/wide_cache_simd.inc"
#include "kernels/cpu/wide_window.inc"
#include "kernels/cpu/wide_decode.inc"
constexpr CacheKernels table = {kName,          W,            window_sums,   window_moments,
                                window_scratch, decode_split, decode_scratch};
}  // namespace avx512
#pragma GCC pop_options

}  // namespace

const CacheKernels& cache_kernels() {
    const bool has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has_avx512 ? avx512::table : avx2::table;
}

}  // namespace cake
