#include "io/random_weights.h"

#include <cmath>

#include "base/hash.h"
#include "io/dequant.h"

namespace cake {
namespace {

// SplitMix64's mixing of a counter (Steele et al., OOPSLA 2014): good bits from consecutive numbers.
std::uint64_t mixed(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

bool is_named(const TensorInfo& tensor, std::string_view part) {
    return tensor.name.find(part) != std::string::npos;
}

}  // namespace

void fill_random(const TensorInfo& tensor, std::uint64_t seed, Range rows, Range columns,
                 View out) {
    const bool vector = tensor.shape.rank() < 2;
    const std::int64_t width = vector ? 1 : tensor.shape.row_elements();
    if (vector)
        columns = {0, 1};
    const float constant = tensor.name.ends_with(".bias") ? 0.0f : 1.0f;
    const double deviation = (is_named(tensor, "q_proj") || is_named(tensor, "k_proj") ? 3 : 1) /
                             std::sqrt(double(width));
    const float range = float(2 * std::sqrt(3.0) * deviation);
    const std::uint64_t start = mixed(seed + fnv1a(tensor.name));
    std::vector<float> row(std::size_t(columns.size()));
    const std::size_t row_bytes = bytes_of(out.dtype(), columns.size());
    auto* to = static_cast<std::byte*>(out.data());
    for (std::int64_t r = rows.begin; r < rows.end; ++r, to += row_bytes) {
        for (std::int64_t c = columns.begin; c < columns.end; ++c) {
            const std::uint64_t bits =
                mixed(start + std::uint64_t(r * width + c) * 0x9e3779b97f4a7c15u);
            row[std::size_t(c - columns.begin)] =
                vector ? constant : (float(bits >> 40) * 0x1p-24f - 0.5f) * range;
        }
        convert_row(DType::F32, reinterpret_cast<const std::byte*>(row.data()), 0, columns.size(),
                    out.dtype(), to);
    }
}

}  // namespace cake
