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
constexpr int kVectorBytes = 32;
constexpr int kTileRows = 4;  // 4 x 3 accumulators, 3 vectors and a broadcast: 16 registers
constexpr const char* kName = "avx2";
inline __m128i load_half(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
inline __m128i load_quarter(const void* p) {
    return _mm_loadl_epi64(static_cast<const __m128i*>(p));
}
inline __m256i widen_u8(const void* p) { return _mm256_cvtepu8_epi32(load_quarter(p)); }
inline __m256i widen_i8(const void* p) { return _mm256_cvtepi8_epi32(load_quarter(p)); }
inline __m256 load(const f16* p) { return _mm256_cvtph_ps(load_half(p)); }
inline __m256 widen_one_f16(std::uint16_t x) { return _mm256_cvtph_ps(_mm_set1_epi16(short(x))); }
inline __m256 widen_two_f16(const void* p) {
    return _mm256_cvtph_ps(_mm_castps_si128(_mm_broadcast_ss(static_cast<const float*>(p))));
}
#include "kernels/cpu/wide_table.inc"
}  // namespace cake::avx2

#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl")
namespace cake::avx512 {
constexpr int kVectorBytes = 64;
constexpr int kTileRows = 8;  // 8 x 3 accumulators, 3 vectors and a broadcast: 28 of 32 registers
constexpr const char* kName = "avx512";
constexpr __mmask16 kAll = 0xffff;  // g++ 12 warns of the forms without a mask
inline __m256i load_half(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline __m128i load_quarter(const void* p) {
    return _mm_loadu_si128(static_cast<const __m128i*>(p));
}
inline __m512i widen_u8(const void* p) { return _mm512_maskz_cvtepu8_epi32(kAll, load_quarter(p)); }
inline __m512i widen_i8(const void* p) { return _mm512_maskz_cvtepi8_epi32(kAll, load_quarter(p)); }
inline __m512 load(const f16* p) { return _mm512_maskz_cvtph_ps(kAll, load_half(p)); }
inline __m512 widen_one_f16(std::uint16_t x) {
    return _mm512_maskz_cvtph_ps(kAll, _mm256_set1_epi16(short(x)));
}
inline __m512 widen_two_f16(const void* p) {
    return _mm512_maskz_cvtph_ps(
        kAll, _mm256_castps_si256(_mm256_broadcast_ss(static_cast<const float*>(p))));
}
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
