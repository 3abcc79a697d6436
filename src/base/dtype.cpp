#include "base/dtype.h"

#include <cmath>

namespace cake {

const DTypeTraits& traits(DType dtype) {
    static constexpr DTypeTraits table[] = {
        {"f32", 1, 4},      {"f16", 1, 2},      {"bf16", 1, 2},     {"f64", 1, 8},
        {"i32", 1, 4},      {"i64", 1, 8},      {"u8", 1, 1},       {"q4_0", 32, 18},
        {"q4_1", 32, 20},   {"q5_0", 32, 22},   {"q5_1", 32, 24},   {"q8_0", 32, 34},
        {"q4_k", 256, 144}, {"q5_k", 256, 176}, {"q6_k", 256, 210},
    };
    return table[std::size_t(dtype)];
}

bf16 to_bf16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)  // NaN stays NaN
        return {std::uint16_t((bits >> 16) | 0x40u)};
    return {std::uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

float to_float(f16 x) {
    const std::uint32_t sign = std::uint32_t(x.bits & 0x8000u) << 16;
    const std::uint32_t exponent = (x.bits >> 10) & 0x1fu;
    const std::uint32_t mantissa = x.bits & 0x3ffu;
    if (exponent == 0)  // zero or subnormal: mantissa * 2^-24
        return std::bit_cast<float>(sign |
                                    std::bit_cast<std::uint32_t>(std::ldexp(float(mantissa), -24)));
    if (exponent == 31)
        return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

f16 to_f16(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const auto sign = std::uint16_t((bits >> 16) & 0x8000u);
    const std::uint32_t magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x7f800000u)
        return {std::uint16_t(sign | 0x7e00u)};
    if (magnitude >= 0x477ff000u)  // rounds to 65536 or more: infinity
        return {std::uint16_t(sign | 0x7c00u)};
    if (magnitude <
        0x38800000u) {  // subnormal half: units of 2^-24, the FPU rounds to nearest even
        const float scaled = std::ldexp(std::bit_cast<float>(magnitude), 24);
        return {std::uint16_t(sign | std::uint16_t(std::nearbyint(scaled)))};
    }
    const std::uint32_t rebased = magnitude - (112u << 23);
    return {std::uint16_t(sign | ((rebased + 0xfffu + ((rebased >> 13) & 1u)) >> 13))};
}

}  // namespace cake
