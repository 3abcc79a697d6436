// Element types of tensors, those of files included.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace cake {

using TokenId = std::int32_t;

// Q...: GGUF's quantised blocks (io/dequant.h describes them); their rows are whole blocks.
enum class DType : std::uint8_t {
    F32,
    F16,
    BF16,
    F64,
    I32,
    I64,
    U8,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K
};

struct DTypeTraits {
    std::string_view name;
    int block_elements;  // 1 for plain types
    int block_bytes;
};

const DTypeTraits& traits(DType dtype);
inline std::string_view name(DType dtype) { return traits(dtype).name; }
inline bool is_quantized(DType dtype) { return traits(dtype).block_elements > 1; }

// Whether matrices of this type can be weights: F32, F16, BF16 and the quantised types.
inline bool is_weight_type(DType dtype) {
    return dtype == DType::F32 || dtype == DType::F16 || dtype == DType::BF16 ||
           is_quantized(dtype);
}

// Bytes of `elements` elements, a multiple of the block.
inline std::size_t bytes_of(DType dtype, std::int64_t elements) {
    return std::size_t(elements / traits(dtype).block_elements) *
           std::size_t(traits(dtype).block_bytes);
}

// 16-bit floats as they lie in memory. Rounding is to nearest even.
struct bf16 {
    std::uint16_t bits;
};
struct f16 {
    std::uint16_t bits;
};

inline float to_float(float x) { return x; }
inline float to_float(bf16 x) { return std::bit_cast<float>(std::uint32_t(x.bits) << 16); }
float to_float(f16 x);

bf16 to_bf16(float x);
f16 to_f16(float x);

template <typename T>
T from_float(float x);
template <>
inline float from_float<float>(float x) {
    return x;
}
template <>
inline bf16 from_float<bf16>(float x) {
    return to_bf16(x);
}
template <>
inline f16 from_float<f16>(float x) {
    return to_f16(x);
}

template <typename T>
inline constexpr DType dtype_of = DType::U8;
template <>
inline constexpr DType dtype_of<float> = DType::F32;
template <>
inline constexpr DType dtype_of<bf16> = DType::BF16;
template <>
inline constexpr DType dtype_of<f16> = DType::F16;
template <>
inline constexpr DType dtype_of<double> = DType::F64;
template <>
inline constexpr DType dtype_of<std::int32_t> = DType::I32;
template <>
inline constexpr DType dtype_of<std::int64_t> = DType::I64;

}  // namespace cake
