// Elements as files store them, converted to the floats that the engine computes with.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace cake {

// Whether tensors of this type can be weights: F32, F16, BF16 and the quantised types.
bool is_weight_type(DType dtype);

// Converts the elements [first, first + n) of a row to `out`, n elements of type `to` (F32, BF16 or
// F16; rounding to nearest even). `row` is the first byte of the row, which is whole blocks of
// `from` where that is quantised; `first` and n may lie inside blocks. `row` needs no alignment.
void convert_row(DType from, const std::byte* row, std::int64_t first, std::int64_t n, DType to,
                 void* out);

}  // namespace cake
