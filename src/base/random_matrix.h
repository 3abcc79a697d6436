// Matrices of random numbers, each made of its place alone: slices agree however a matrix is cut, and on every machine.
#pragma once

#include <cstdint>

namespace cake {

// SplitMix64 (Steele et al., OOPSLA 2014): a counter's step, and its mixing, good bits from consecutive numbers.
inline constexpr std::uint64_t random_step = 0x9e3779b97f4a7c15u;
inline std::uint64_t mixed(std::uint64_t x) {
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
}

struct RandomMatrix {
    std::uint64_t key = 0;     // tells matrices apart
    std::int64_t columns = 0;  // of the whole matrix
    float range = 0;           // numbers are uniform in [-range/2, range/2)

    // The upper 24 bits of a mixed number, as a part of 2^24, - 1/2, times range.
    float at(std::int64_t row, std::int64_t column) const {
        const std::uint64_t bits = mixed(key + std::uint64_t(row * columns + column) * random_step);
        return (float(bits >> 40) * 0x1p-24f - 0.5f) * range;
    }
};

}  // namespace cake
