// Weights for tries of speed and memory, where no model is at hand.
#pragma once

#include <cstdint>

#include "io/checkpoint.h"

namespace cake {

// Rows x columns of `tensor` as its name, place and the seed make them: the same whichever slice they are read in, so a
// model is the same on every number of ranks. Matrices are uniform with mean 0 and variance 1 / columns, queries' and
// keys' 9 times that, so that attention is not the same everywhere; norms are 1, biases 0. out: F32, BF16 or F16.
void fill_random(const TensorInfo& tensor, std::uint64_t seed, Range rows, Range columns, View out);

}  // namespace cake
