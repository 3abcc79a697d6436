// A matrix of weights of any type, of random content, and the numbers that it means.
#pragma once

#include <vector>

#include "kernels/backend.h"
#include "support/reference_dequant.h"

namespace cake {

struct RandomWeights {
    // [out, in], in whole blocks. The numbers are as exact as F32 holds them.
    RandomWeights(Backend& backend, DType dtype, Shape shape) {
        std::mt19937 random(unsigned(dtype) + 1);
        std::vector<std::byte> stored = random_row(dtype, shape.elements(), random);
        if (!is_quantized(dtype)) {  // any bits may be no number
            std::normal_distribution<float> normal;
            const std::size_t size = std::size_t(traits(dtype).block_bytes);
            for (std::size_t at = 0; at < stored.size(); at += size) {
                const float x = normal(random);
                const auto put = [&](auto value) {
                    std::memcpy(stored.data() + at, &value, sizeof(value));
                };
                dtype == DType::F32   ? put(x)
                : dtype == DType::F16 ? put(to_f16(x))
                                      : put(to_bf16(x));
            }
        }
        for (std::int64_t i = 0; i < shape.elements(); ++i)
            values.push_back(float(reference_element(dtype, stored.data(), i)));
        dev = backend.tensor(dtype, shape);
        backend.copy({}, dev, View(stored.data(), dtype, shape));
        backend.synchronize({});
    }
    Tensor dev;
    std::vector<float> values;
};

}  // namespace cake
