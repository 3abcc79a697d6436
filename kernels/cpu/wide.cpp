#include "kernels/cpu/wide.h"

#include <cmath>
#include <cstring>
#include <limits>

// The .inc files define functions and types in the namespace that is open here, for vectors of kVectorBytes. GCC
// compiles everything between push_options and pop_options for the wider instruction set; headers with inline
// functions stay outside, so that no AVX-512 code of theirs can be linked into the rest of the program.
namespace cake::avx2 {
constexpr int kVectorBytes = 32;
constexpr int kTileRows = 4;  // 4 x 3 accumulators, 3 vectors and a broadcast: 16 registers
constexpr const char* kName = "avx2";
#include "kernels/cpu/wide_attention.inc"
#include "kernels/cpu/wide_linear.inc"
#include "kernels/cpu/wide_simd.inc"
#include "kernels/cpu/wide_table.inc"
}  // namespace cake::avx2

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
namespace cake::avx512 {
constexpr int kVectorBytes = 64;
constexpr int kTileRows = 8;  // 8 x 3 accumulators, 3 vectors and a broadcast: 28 of 32 registers
constexpr const char* kName = "avx512";
#include "kernels/cpu/wide_attention.inc"
#include "kernels/cpu/wide_linear.inc"
#include "kernels/cpu/wide_simd.inc"
#include "kernels/cpu/wide_table.inc"
}  // namespace cake::avx512
#pragma GCC pop_options

namespace cake {

const WideKernels& wide_kernels() {
    const bool has_avx512 =
        __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return has_avx512 ? avx512::table : avx2::table;
}

}  // namespace cake
