// Quantised types are sequences of blocks. d, m: F16. Within a byte the low half comes first.
// Source: https://github.com/ggml-org/ggml, src/ggml-common.h (layout) and ggml-quants.c (meaning).
//
//   32 elements; element j of 0..15 is the low half of q[j], element 16 + j the high half
//     Q4_0  d q[16]          x = d * (q - 8)
//     Q4_1  d m q[16]        x = d * q + m
//     Q5_0  d h[4] q[16]     x = d * (q - 16), bit 4 of q_j is bit j of h (32 bits)
//     Q5_1  d m h[4] q[16]   x = d * q + m
//     Q8_0  d q[32]          x = d * q, q signed
//
//   256 elements, eight parts p of 32, each with a 6-bit scale s_p and minimum m_p
//     Q4_K  d dm sm[12] q[128]        x = d * s_p * q - dm * m_p
//     Q5_K  d dm sm[12] h[32] q[128]  the same, bit 4 of element j of part p is bit p of h[j]
//     q: 32 bytes hold parts 2i (low halves) and 2i + 1 (high halves)
//     sm: s_p = sm[p] & 63 and m_p = sm[p + 4] & 63 for p < 4, whose upper two bits are the upper
//         two bits of s_(p+4) and m_(p+4); the lower four are the halves of sm[p + 8]
//
//   256 elements, sixteen parts of 16, each with a signed 8-bit scale
//     Q6_K  l[128] h[64] s[16] d      x = d * s_p * (q - 32)
//     in each half of the block: l[64], h[32]; element j of 0..31 of quarter k has its lower four
//     bits in l[j + 32 * (k & 1)] (low half for k < 2), its upper two are bits 2k, 2k + 1 of h[j]
#include "io/dequant.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "base/error.h"
#include "io/float_convert.h"

namespace cake {
namespace {

using Byte = std::uint8_t;

float f16_at(const Byte* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return widen(bits);
}

// Each decoder: one block to `elements` floats.
struct Q4_0 {
    static constexpr int elements = 32, bytes = 18;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b);
        for (int j = 0; j < 16; ++j) {
            x[j] = d * float(int(b[2 + j] & 15) - 8);
            x[16 + j] = d * float(int(b[2 + j] >> 4) - 8);
        }
    }
};

struct Q4_1 {
    static constexpr int elements = 32, bytes = 20;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b), m = f16_at(b + 2);
        for (int j = 0; j < 16; ++j) {
            x[j] = d * float(b[4 + j] & 15) + m;
            x[16 + j] = d * float(b[4 + j] >> 4) + m;
        }
    }
};

struct Q5_0 {
    static constexpr int elements = 32, bytes = 22;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b);
        std::uint32_t h;
        std::memcpy(&h, b + 2, sizeof(h));
        for (int j = 0; j < 16; ++j) {
            x[j] = d * float(int((b[6 + j] & 15u) | ((h >> j) & 1u) << 4) - 16);
            x[16 + j] = d * float(int((b[6 + j] >> 4) | ((h >> (16 + j)) & 1u) << 4) - 16);
        }
    }
};

struct Q5_1 {
    static constexpr int elements = 32, bytes = 24;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b), m = f16_at(b + 2);
        std::uint32_t h;
        std::memcpy(&h, b + 4, sizeof(h));
        for (int j = 0; j < 16; ++j) {
            x[j] = d * float(int((b[8 + j] & 15u) | ((h >> j) & 1u) << 4)) + m;
            x[16 + j] = d * float(int((b[8 + j] >> 4) | ((h >> (16 + j)) & 1u) << 4)) + m;
        }
    }
};

struct Q8_0 {
    static constexpr int elements = 32, bytes = 34;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b);
        for (int j = 0; j < 32; ++j)
            x[j] = d * float(static_cast<std::int8_t>(b[2 + j]));
    }
};

// The scale and the minimum of part p of a Q4_K or Q5_K block.
struct ScaleMin {
    float scale, min;
};

ScaleMin scale_min(const Byte* sm, int p) {
    if (p < 4)
        return {float(sm[p] & 63), float(sm[p + 4] & 63)};
    return {float((sm[p + 4] & 15) | (sm[p - 4] >> 6) << 4),
            float((sm[p + 4] >> 4) | (sm[p] >> 6) << 4)};
}

struct Q4_K {
    static constexpr int elements = 256, bytes = 144;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b), dm = f16_at(b + 2);
        const Byte* q = b + 16;
        for (int p = 0; p < 8; p += 2, q += 32, x += 64) {
            const ScaleMin low = scale_min(b + 4, p), high = scale_min(b + 4, p + 1);
            const float d0 = d * low.scale, m0 = dm * low.min;
            const float d1 = d * high.scale, m1 = dm * high.min;
            for (int j = 0; j < 32; ++j) {
                x[j] = d0 * float(q[j] & 15) - m0;
                x[32 + j] = d1 * float(q[j] >> 4) - m1;
            }
        }
    }
};

struct Q5_K {
    static constexpr int elements = 256, bytes = 176;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b), dm = f16_at(b + 2);
        const Byte* h = b + 16;
        const Byte* q = b + 48;
        for (int p = 0; p < 8; p += 2, q += 32, x += 64) {
            const ScaleMin low = scale_min(b + 4, p), high = scale_min(b + 4, p + 1);
            const float d0 = d * low.scale, m0 = dm * low.min;
            const float d1 = d * high.scale, m1 = dm * high.min;
            for (int j = 0; j < 32; ++j) {
                x[j] = d0 * float((q[j] & 15) | ((h[j] >> p) & 1) << 4) - m0;
                x[32 + j] = d1 * float((q[j] >> 4) | ((h[j] >> (p + 1)) & 1) << 4) - m1;
            }
        }
    }
};

struct Q6_K {
    static constexpr int elements = 256, bytes = 210;
    static void decode(const Byte* b, float* x) {
        const float d = f16_at(b + 208);
        for (int half = 0; half < 2; ++half)
            for (int k = 0; k < 4; ++k, x += 32) {
                const Byte* l = b + 64 * half + 32 * (k & 1);
                const Byte* h = b + 128 + 32 * half;
                const auto* s = reinterpret_cast<const std::int8_t*>(b + 192 + 8 * half + 2 * k);
                const int low = k < 2 ? 0 : 4, high = 2 * k;
                const float scale[2] = {d * float(s[0]), d * float(s[1])};
                for (int j = 0; j < 32; ++j) {
                    const int q = ((l[j] >> low) & 15) | ((h[j] >> high) & 3) << 4;
                    x[j] = scale[j / 16] * float(q - 32);
                }
            }
    }
};

template <typename Block>
void load_blocks(const Byte* row, std::int64_t first, std::int64_t n, float* out) {
    const Byte* block = row + first / Block::elements * Block::bytes;
    std::int64_t skip = first % Block::elements;
    while (n > 0) {
        if (skip == 0 && n >= Block::elements) {
            Block::decode(block, out);
            out += Block::elements;
            n -= Block::elements;
        } else {  // the slice begins or ends inside this block
            std::array<float, Block::elements> whole;
            Block::decode(block, whole.data());
            const std::int64_t part = std::min(n, Block::elements - skip);
            out = std::copy_n(whole.begin() + skip, part, out);
            n -= part;
            skip = 0;
        }
        block += Block::bytes;
    }
}

// Elements [first, first + n) of a row as floats.
void load(DType from, const Byte* row, std::int64_t first, std::int64_t n, float* out) {
    switch (from) {
        case DType::F32: std::memcpy(out, row + 4 * first, std::size_t(4 * n)); return;
        case DType::F16:
            for (std::int64_t i = 0; i < n; ++i)
                out[i] = f16_at(row + 2 * (first + i));
            return;
        case DType::BF16:
            for (std::int64_t i = 0; i < n; ++i) {
                std::uint16_t bits;
                std::memcpy(&bits, row + 2 * (first + i), sizeof(bits));
                out[i] = std::bit_cast<float>(std::uint32_t(bits) << 16);
            }
            return;
        case DType::Q4_0: return load_blocks<Q4_0>(row, first, n, out);
        case DType::Q4_1: return load_blocks<Q4_1>(row, first, n, out);
        case DType::Q5_0: return load_blocks<Q5_0>(row, first, n, out);
        case DType::Q5_1: return load_blocks<Q5_1>(row, first, n, out);
        case DType::Q8_0: return load_blocks<Q8_0>(row, first, n, out);
        case DType::Q4_K: return load_blocks<Q4_K>(row, first, n, out);
        case DType::Q5_K: return load_blocks<Q5_K>(row, first, n, out);
        case DType::Q6_K: return load_blocks<Q6_K>(row, first, n, out);
        case DType::F64:
        case DType::I32:
        case DType::I64:
        case DType::U8: break;
    }
    CAKE_CHECK(false, "{} is no type of weights", name(from));
}

}  // namespace

void convert_row(DType from, const std::byte* row, std::int64_t first, std::int64_t n, DType to,
                 void* out) {
    if (n == 0)  // `out` may be null
        return;
    const auto* in = reinterpret_cast<const Byte*>(row);
    if (to == DType::F32)
        return load(from, in, first, n, static_cast<float*>(out));
    if (from == to) {
        CAKE_CHECK(first % traits(from).block_elements == 0 && n % traits(from).block_elements == 0,
                   "elements {}..{} of {} are not whole blocks", first, first + n, name(from));
        std::memcpy(out, in + bytes_of(from, first), bytes_of(from, n));
        return;
    }
    CAKE_CHECK(to == DType::BF16 || to == DType::F16, "weights are not read as {}", name(to));
    // Through floats, a stretch at a time that stays in the first-level cache.
    std::array<float, 2048> floats;
    auto* narrow = static_cast<std::uint16_t*>(out);
    for (std::int64_t done = 0; done < n;) {
        // Stretches end where blocks end, so that only the slice's own ends split blocks.
        const std::int64_t next = (first + done + 2048) / 256 * 256 - first;
        const std::int64_t part = std::min({n - done, next - done, std::int64_t(2048)});
        load(from, in, first + done, part, floats.data());
        if (to == DType::BF16)
            std::transform(floats.begin(), floats.begin() + part, narrow + done, narrow_to_bf16);
        else
            std::transform(floats.begin(), floats.begin() + part, narrow + done, narrow_to_f16);
        done += part;
    }
}

std::int64_t first_block_not_finite(DType dtype, const std::byte* row, std::int64_t n) {
    const bool two = dtype == DType::Q4_1 || dtype == DType::Q5_1 || dtype == DType::Q4_K ||
                     dtype == DType::Q5_K;
    const auto* b = reinterpret_cast<const Byte*>(row) + (dtype == DType::Q6_K ? 208 : 0);
    for (std::int64_t i = 0; i < n;
         i += traits(dtype).block_elements, b += traits(dtype).block_bytes)
        if (!std::isfinite(f16_at(b)) || (two && !std::isfinite(f16_at(b + 2))))
            return i;
    return n;
}

}  // namespace cake
