#include "io/random_weights.h"

#include <algorithm>
#include <cmath>
#include <thread>

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

// A thread starts in some 20 us, and makes so many in about 50 times that.
constexpr std::int64_t elements_per_thread = 1 << 18;

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
    const std::size_t row_bytes = bytes_of(out.dtype(), columns.size());
    const auto fill_rows = [&](Range part) {
        std::vector<float> row(std::size_t(columns.size()), constant);
        auto* to =
            static_cast<std::byte*>(out.data()) + std::size_t(part.begin - rows.begin) * row_bytes;
        for (std::int64_t r = part.begin; r < part.end; ++r, to += row_bytes) {
            for (std::int64_t c = columns.begin; c < columns.end && !vector; ++c) {
                const std::uint64_t bits =
                    mixed(start + std::uint64_t(r * width + c) * 0x9e3779b97f4a7c15u);
                row[std::size_t(c - columns.begin)] = (float(bits >> 40) * 0x1p-24f - 0.5f) * range;
            }
            convert_row(DType::F32, reinterpret_cast<const std::byte*>(row.data()), 0,
                        columns.size(), out.dtype(), to);
        }
    };
    // Every number is made of its place alone, so threads divide them as they like.
    const std::int64_t threads =
        std::clamp<std::int64_t>(rows.size() * columns.size() / elements_per_thread, 1,
                                 std::max(std::thread::hardware_concurrency(), 1u));
    const auto cut = [&](std::int64_t t) { return rows.begin + rows.size() * t / threads; };
    std::vector<std::jthread> others;
    for (std::int64_t t = 1; t < threads; ++t)
        others.emplace_back(fill_rows, Range{cut(t), cut(t + 1)});
    fill_rows({cut(0), cut(1)});
}

}  // namespace cake
