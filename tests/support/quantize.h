// Quantisation good enough for tiny models: Q4_0, Q4_1 and Q8_0, each block by its own extremes.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/error.h"
#include "support/byte_writer.h"

namespace cake {

// `values`: whole blocks of 32. Decoded again, an element is off by about half a step.
inline std::vector<std::byte> quantized(DType dtype, std::span<const float> values) {
    CAKE_CHECK(values.size() % 32 == 0, "{} values are not whole blocks", values.size());
    ByteWriter out;
    for (std::size_t i = 0; i < values.size(); i += 32) {
        const auto x = values.subspan(i, 32);
        const auto [low, high] = std::minmax_element(x.begin(), x.end());
        const float most = std::max(std::abs(*low), std::abs(*high));
        const float step = dtype == DType::Q8_0   ? most / 127
                           : dtype == DType::Q4_0 ? most / 7
                                                  : (*high - *low) / 15;
        const f16 d = to_f16(step);
        const f16 m = to_f16(*low);
        const float scale = to_float(d) > 0 ? 1 / to_float(d) : 0;
        const auto level = [&](float value, float origin, int least, int greatest) {
            return std::clamp(int(std::lround((value - origin) * scale)), least, greatest);
        };
        out.put(d);
        if (dtype == DType::Q8_0) {
            for (float value : x)
                out.put(std::int8_t(level(value, 0, -127, 127)));
            continue;
        }
        CAKE_CHECK(dtype == DType::Q4_0 || dtype == DType::Q4_1, "no quantiser for {}",
                   name(dtype));
        if (dtype == DType::Q4_1)
            out.put(m);
        const auto nibble = [&](float value) {
            return dtype == DType::Q4_1 ? level(value, to_float(m), 0, 15)
                                        : level(value, 0, -8, 7) + 8;
        };
        for (std::size_t j = 0; j < 16; ++j)
            out.put(std::uint8_t(nibble(x[j]) | nibble(x[j + 16]) << 4));
    }
    return out.bytes();
}

}  // namespace cake
