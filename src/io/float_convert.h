// 16-bit floats to and from 32 bits without branches, so that loops over them become vector code.
// Same results as to_float, to_bf16 and to_f16 of base/dtype.h (tests compare all bit patterns).
#pragma once

#include <bit>
#include <cstdint>

#include "base/dtype.h"

namespace cake {

inline float widen(std::uint32_t f16_bits) {
    const std::uint32_t sign = (f16_bits & 0x8000u) << 16;
    const std::uint32_t mantissa = f16_bits & 0x3ffu;
    const std::uint32_t exponent = f16_bits & 0x7c00u;
    // The exponent's bias goes from 15 to 127; all ones stay all ones (infinity, NaN).
    const std::uint32_t rebias = exponent == 0x7c00u ? 224u << 23 : 112u << 23;
    const std::uint32_t normal = ((f16_bits & 0x7fffu) << 13) + rebias;
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(float(std::int32_t(mantissa)) * 0x1p-24f);
    return std::bit_cast<float>(sign | (exponent == 0 ? subnormal : normal));
}

inline std::uint16_t narrow_to_bf16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    const std::uint32_t nan = (bits >> 16) | 0x40u;
    return std::uint16_t((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

inline std::uint16_t narrow_to_f16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (bits >> 16) & 0x8000u;
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    const std::uint32_t normal =
        (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    // Below 2^-14: adding 0.5 leaves the value in units of 2^-24, rounded by the processor.
    const std::uint32_t subnormal =
        std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
    std::uint32_t out = magnitude < 0x38800000u ? subnormal : normal;
    out = magnitude >= 0x477ff000u ? 0x7c00u : out;  // 65520 and above: infinity
    out = magnitude > 0x7f800000u ? 0x7e00u : out;
    return std::uint16_t(sign | out);
}

}  // namespace cake
