// Scores as integers that sort best first.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace cake {

// Ascending keys are descending scores, and of equal scores the lower index comes first; so any sort or selection of
// keys, stable or not, is the one right order. -0 equals 0; a NaN comes after everything.
inline std::uint64_t rank_key(float score, std::uint32_t index) {
    auto bits = std::bit_cast<std::uint32_t>(score + 0.0f);
    // Floats order like their bits when negative ones are flipped and the others get the top bit; ~ turns it round.
    bits = (bits & 0x80000000u) ? bits : ~(bits | 0x80000000u);
    if (std::isnan(score))
        bits = ~0u;
    return (std::uint64_t(bits) << 32) | index;
}

inline std::uint32_t index_of(std::uint64_t key) { return std::uint32_t(key); }

}  // namespace cake
