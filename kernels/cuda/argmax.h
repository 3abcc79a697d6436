// The best of each row (kernels/backend.h: argmax).
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cake::gpu {

// x: [rows, n]; best: [rows].
void argmax(Queue queue, const float* x, std::int64_t rows, std::int64_t n, std::uint32_t first,
            std::uint64_t* best);

}  // namespace cake::gpu
