#include "kernels/cpu/wide_cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>

#include "kernels/cpu/wide.h"

// As wide.cpp does it: the same text for two instruction sets. All of it is local to this file.
namespace cake {
namespace {
namespace avx2 {
constexpr int kTileKeys = 4;  // 4 x 2 accumulators hide the latency of a multiply-add
#include "kernels/cpu/wide_avx2.inc"
#include "kernels/cpu/wide_cache_table.inc"
}  // namespace avx2

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
namespace avx512 {
constexpr int kTileKeys = 8;
#include "kernels/cpu/wide_avx512.inc"
#include "kernels/cpu/wide_cache_table.inc"
}  // namespace avx512
#pragma GCC pop_options

}  // namespace

const CacheKernels& cache_kernels() {
    return &wide_kernels() == &avx2_kernels() ? avx2::table : avx512::table;
}

const CacheKernels& avx2_cache_kernels() { return avx2::table; }

}  // namespace cake
