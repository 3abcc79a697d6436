// Weights for tries of speed and memory, where no model is at hand: what tensors hold, by their names.
#pragma once

#include <cstdint>

#include "base/random_matrix.h"
#include "io/checkpoint.h"

namespace cake {

// The numbers of a matrix, by its name and the seed: uniform with mean 0 and variance 1 / columns, queries' and keys' 9
// times that, so that attention is not the same everywhere.
RandomMatrix random_matrix(const TensorInfo& matrix, std::uint64_t seed);

// Elements of a vector: norms are 1, biases 0.  out: F32, BF16 or F16.
void fill_vector(const TensorInfo& vector, View out);

}  // namespace cake
