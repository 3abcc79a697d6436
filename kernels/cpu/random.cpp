// Random weights.
#include <algorithm>
#include <bit>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"

namespace cake {

namespace {

template <typename T>
T narrow(float x) {
    return from_float<T>(x);
}
// As to_bf16, but compiled into the loop; no number here is a NaN.
template <>
bf16 narrow<bf16>(float x) {
    const auto bits = std::bit_cast<std::uint32_t>(x);
    return {std::uint16_t((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
}

template <typename T>
void fill(int threads, const RandomMatrix& matrix, std::int64_t row, std::int64_t column,
          View out) {
    auto* to = out.as<T>();
    const std::int64_t n = out.dim(0), m = out.dim(1);
    const std::int64_t rows_of_a_piece =
        std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, m));
    parallel_pieces(threads, n, rows_of_a_piece, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            for (std::int64_t j = 0; j < m; ++j)
                to[i * m + j] = narrow<T>(matrix.at(row + i, column + j));
    });
}

}  // namespace

void CpuBackend::fill_random(Stream, const RandomMatrix& matrix, std::int64_t row,
                             std::int64_t column, View out) {
    CAKE_CHECK(out.shape().rank() == 2 && column + out.dim(1) <= matrix.columns,
               "{} from column {} of {} random ones", out.shape().str(), column, matrix.columns);
    switch (out.dtype()) {
        case DType::F32: return fill<float>(threads_, matrix, row, column, out);
        case DType::BF16: return fill<bf16>(threads_, matrix, row, column, out);
        case DType::F16: return fill<f16>(threads_, matrix, row, column, out);
        default: CAKE_CHECK(false, "random numbers of type {}", cake::name(out.dtype()));
    }
}

}  // namespace cake
