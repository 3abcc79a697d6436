// Tokens drawn from logits (kernels/backend.h: sample).
#pragma once

#include <cstdint>

#include "kernels/cuda/launch.h"
#include "kernels/draw.h"

namespace cake::gpu {

// x: `parts` runs of [rows, columns of the run], n columns in all; draws, tokens: [rows].
void sample(Queue queue, const float* x, int rows, int n, int parts, const Draw* draws,
            std::int32_t* tokens);

}  // namespace cake::gpu
