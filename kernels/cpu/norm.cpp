// The steps of a block that go through activations once, row by row.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/wide.h"

namespace cake {

namespace {

// Rows of a piece of work: some tens of microseconds, however long a row is.
std::int64_t rows_of_a_piece(std::int64_t row_elements) {
    return std::max<std::int64_t>(1, 16384 / std::max<std::int64_t>(1, row_elements));
}

// In 16 partial sums with a fixed order of folding: how the compiler vectorises it cannot change
// the result.
float sum_of_squares(const float* x, std::int64_t n) {
    constexpr int lanes = 16;
    float partial[lanes] = {};
    std::int64_t i = 0;
    for (; i + lanes <= n; i += lanes)
        for (int j = 0; j < lanes; ++j)
            partial[j] += x[i + j] * x[i + j];
    for (int j = 0; i < n; ++i, ++j)
        partial[j] += x[i] * x[i];
    for (int width = lanes / 2; width > 0; width /= 2)
        for (int j = 0; j < width; ++j)
            partial[j] += partial[j + width];
    return partial[0];
}

void rms_norm_row(const float* x, const float* weight, std::int64_t d, float eps, float* out) {
    const float inverse_rms = 1.0f / std::sqrt(sum_of_squares(x, d) / float(d) + eps);
    for (std::int64_t i = 0; i < d; ++i)
        out[i] = x[i] * inverse_rms * weight[i];
}

}  // namespace

void CpuBackend::embed(Stream, View ids, View table, std::int64_t first_row, View out) {
    CAKE_CHECK(out.elements() == ids.elements() * table.dim(1),
               "embedding of {} ids from {} into {}", ids.elements(), table.shape().str(),
               out.shape().str());
    const std::int64_t d = table.dim(1);
    CAKE_CHECK(is_weight_type(table.dtype()) && d % traits(table.dtype()).block_elements == 0,
               "embedding of {} {}", table.shape().str(), cake::name(table.dtype()));
    const auto* rows = static_cast<const std::byte*>(table.data());
    const std::size_t row_bytes = bytes_of(table.dtype(), d);
    const auto* id = ids.as<std::int32_t>();
    auto* to = out.as<float>();
    for (std::int64_t i = 0; i < ids.elements(); ++i) {
        const std::int64_t row = id[i] - first_row;
        if (row >= 0 && row < table.dim(0))
            wide_kernels().widen(table.dtype(), rows + std::size_t(row) * row_bytes, d, to + i * d);
        else
            std::fill_n(to + i * d, d, 0.0f);
    }
}

void CpuBackend::rms_norm(Stream, View x, View weight, float eps, View out) {
    const std::int64_t n = x.dim(0), d = weight.elements();
    CAKE_CHECK(x.elements() == n * d && out.elements() == n * d,
               "norm of {} into {} with {} weights", x.shape().str(), out.shape().str(), d);
    const float *from = x.as<float>(), *w = weight.as<float>();
    auto* to = out.as<float>();
    parallel_pieces(threads_, n, rows_of_a_piece(d), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r)
            rms_norm_row(from + r * d, w, d, eps, to + r * d);
    });
}

void CpuBackend::add_rms_norm(Stream, View x, View delta, View weight, float eps, View out) {
    const std::int64_t n = x.dim(0), d = weight.elements();
    CAKE_CHECK(x.elements() == n * d && delta.elements() == n * d && out.elements() == n * d,
               "norm of {} + {} into {} with {} weights", x.shape().str(), delta.shape().str(),
               out.shape().str(), d);
    const float *more = delta.as<float>(), *w = weight.as<float>();
    float *sum = x.as<float>(), *to = out.as<float>();
    parallel_pieces(threads_, n, rows_of_a_piece(d), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r) {
            for (std::int64_t i = r * d; i < (r + 1) * d; ++i)
                sum[i] += more[i];
            rms_norm_row(sum + r * d, w, d, eps, to + r * d);
        }
    });
}

void CpuBackend::add(Stream, View x, View delta) {
    CAKE_CHECK(x.elements() == delta.elements(), "sum of {} and {}", x.shape().str(),
               delta.shape().str());
    const auto* more = delta.as<float>();
    auto* sum = x.as<float>();
    parallel_pieces(threads_, x.elements(), 16384, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t i = begin; i < end; ++i)
            sum[i] += more[i];
    });
}

void CpuBackend::silu_mul(Stream, View gate_up, View out) {
    const std::int64_t n = out.dim(0), ff = out.dim(1);
    CAKE_CHECK(gate_up.elements() == 2 * n * ff, "gates {} into {}", gate_up.shape().str(),
               out.shape().str());
    const auto* from = gate_up.as<float>();
    auto* to = out.as<float>();
    parallel_pieces(threads_, n, rows_of_a_piece(ff), [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r)
            wide_kernels().silu_mul(from + 2 * r * ff, from + (2 * r + 1) * ff, to + r * ff, ff);
    });
}

}  // namespace cake
