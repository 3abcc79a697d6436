#include "kernels/cpu/wide.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>

#include <dnnl.hpp>

// The .inc files define functions and types in the namespace that is open here, for vectors of
// kVectorBytes. What GCC's vector extension compiles badly (bytes and halves to lanes of 32 bits) is
// given to them as functions. GCC compiles everything between push_options and pop_options for the wider
// instruction set; headers with inline functions are included above, outside, so that no AVX-512
// code of theirs can be linked into the rest of the program.
namespace cake::avx2 {
constexpr int kTileRows = 4;  // 4 x 3 accumulators, 3 vectors and a broadcast: 16 registers
#include "kernels/cpu/wide_avx2.inc"
#include "kernels/cpu/wide_table.inc"
}  // namespace cake::avx2

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
namespace cake::avx512 {
constexpr int kTileRows = 8;  // 8 x 3 accumulators, 3 vectors and a broadcast: 28 of 32 registers
#include "kernels/cpu/wide_avx512.inc"
#include "kernels/cpu/wide_table.inc"
}  // namespace cake::avx512
#pragma GCC pop_options

namespace cake {

const WideKernels& wide_kernels() {
    // An isa is a set of bits, those of the instruction sets that it contains; avx512_core has F,
    // BW, DQ and VL.
    const auto isa = unsigned(dnnl::get_effective_cpu_isa());
    const auto avx512 = unsigned(dnnl::cpu_isa::avx512_core);
    return (isa & avx512) == avx512 ? avx512::table : avx2::table;
}

const WideKernels& avx2_kernels() { return avx2::table; }

}  // namespace cake
