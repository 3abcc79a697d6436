// What an element of a stored row means, one at a time and in double, from the description of the
// formats; and rows of random blocks to try it on.
#pragma once

#include <array>
#include <cstring>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"

namespace cake {

inline double reference_f16(const std::uint8_t* p) {
    f16 half;
    std::memcpy(&half, p, sizeof(half));
    return to_float(half);
}

// Bit `bit` of a string of bytes, the lowest bit of the first byte being bit 0.
inline int reference_bit(const std::uint8_t* p, int bit) { return (p[bit / 8] >> (bit % 8)) & 1; }

// The 6-bit scales and minima of a K-block: entries 0..7 are scales, 8..15 minima.
inline int reference_scale(const std::uint8_t* sm, int entry) {
    const bool minimum = entry >= 8;
    const int part = entry % 8;
    if (part < 4)
        return sm[part + (minimum ? 4 : 0)] % 64;
    const int lower = minimum ? sm[part + 4] / 16 : sm[part + 4] % 16;
    const int upper = sm[part - (minimum ? 0 : 4)] / 64;
    return 16 * upper + lower;
}

// Element `index` of the row that begins at `row`.
inline double reference_element(DType dtype, const std::byte* row, std::int64_t index) {
    const int in_block = int(index % traits(dtype).block_elements);
    const auto* b = reinterpret_cast<const std::uint8_t*>(row) +
                    index / traits(dtype).block_elements * traits(dtype).block_bytes;
    // Blocks of 32: the nibble at `q`, halves of the block in halves of the bytes.
    const auto nibble = [&](const std::uint8_t* q) {
        return in_block < 16 ? q[in_block] % 16 : q[in_block - 16] / 16;
    };
    switch (dtype) {
        case DType::F32: {
            float x;
            std::memcpy(&x, b, sizeof(x));
            return x;
        }
        case DType::F16: return reference_f16(b);
        case DType::BF16: {
            bf16 x;
            std::memcpy(&x, b, sizeof(x));
            return to_float(x);
        }
        case DType::Q4_0: return reference_f16(b) * (nibble(b + 2) - 8);
        case DType::Q4_1: return reference_f16(b) * nibble(b + 4) + reference_f16(b + 2);
        case DType::Q5_0:
            return reference_f16(b) * (nibble(b + 6) + 16 * reference_bit(b + 2, in_block) - 16);
        case DType::Q5_1:
            return reference_f16(b) * (nibble(b + 8) + 16 * reference_bit(b + 4, in_block)) +
                   reference_f16(b + 2);
        case DType::Q8_0: return reference_f16(b) * std::int8_t(b[2 + in_block]);
        case DType::Q4_K:
        case DType::Q5_K: {
            const int part = in_block / 32, j = in_block % 32;
            const std::uint8_t* q = b + (dtype == DType::Q4_K ? 16 : 48);
            const int byte = q[part / 2 * 32 + j];
            int value = part % 2 == 0 ? byte % 16 : byte / 16;
            if (dtype == DType::Q5_K)
                value += 16 * ((b[16 + j] >> part) & 1);
            return reference_f16(b) * reference_scale(b + 4, part) * value -
                   reference_f16(b + 2) * reference_scale(b + 4, 8 + part);
        }
        case DType::Q6_K: {
            const int half = in_block / 128, quarter = in_block % 128 / 32, j = in_block % 32;
            const int low_byte = b[64 * half + 32 * (quarter % 2) + j];
            const int low = quarter < 2 ? low_byte % 16 : low_byte / 16;
            const int high = (b[128 + 32 * half + j] >> (2 * quarter)) % 4;
            const int scale = std::int8_t(b[192 + in_block / 16]);
            return reference_f16(b + 208) * scale * (low + 16 * high - 32);
        }
        default: break;
    }
    throw Error("no reference for this type");
}

// `n` elements of random content, in file form; scales are finite, of about 0.1, of either sign.
inline std::vector<std::byte> random_row(DType dtype, std::int64_t n, std::mt19937& random) {
    std::uniform_int_distribution<int> any(0, 255);
    std::normal_distribution<float> normal(0, 0.1f);
    std::vector<std::byte> out(bytes_of(dtype, n));
    for (std::byte& byte : out)
        byte = std::byte(any(random));

    const std::size_t size = std::size_t(traits(dtype).block_bytes);
    for (std::size_t block = 0; block < out.size(); block += size) {
        const auto put = [&](std::size_t at, auto value) {
            std::memcpy(out.data() + block + at, &value, sizeof(value));
        };
        switch (dtype) {
            case DType::F32: put(0, normal(random)); break;
            case DType::F16: put(0, to_f16(normal(random))); break;
            case DType::BF16: put(0, to_bf16(normal(random))); break;
            case DType::Q6_K: put(208, to_f16(normal(random))); break;
            case DType::Q4_1:
            case DType::Q5_1:
            case DType::Q4_K:
            case DType::Q5_K: put(2, to_f16(normal(random))); [[fallthrough]];
            default: put(0, to_f16(normal(random)));
        }
    }
    return out;
}

inline constexpr std::array weight_types = {DType::F32,  DType::F16,  DType::BF16, DType::Q4_0,
                                            DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0,
                                            DType::Q4_K, DType::Q5_K, DType::Q6_K};

}  // namespace cake
