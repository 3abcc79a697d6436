// Elements as files store them, converted to the floats that the engine computes with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace cake {

// Converts the elements [first, first + n) of a row to `out`, n elements of type `to`: F32, BF16 or
// F16, rounding to nearest even; or `from`, which copies, blocks only whole. `row` is the first byte of the row, which is whole blocks of
// `from` where that is quantised; `first` and n may lie inside blocks. `row` needs no alignment.
void convert_row(DType from, const std::byte* row, std::int64_t first, std::int64_t n, DType to,
                 void* out);

// The first element whose block has a scale that is infinite or not a number, or n: of n elements of
// a quantised type, whole blocks. Finite scales make finite elements, others none.
std::int64_t first_block_not_finite(DType dtype, const std::byte* row, std::int64_t n);

}  // namespace cake
