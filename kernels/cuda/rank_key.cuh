// Scores as integers that sort best first: kernels/cpu/rank_key.h for the device.
#pragma once

#include <cstdint>

#include "kernels/cuda/kernel.h"

namespace cake::gpu {

// Ascending keys are descending scores, and of equal scores the lower index comes first. -0 equals 0; a NaN comes after
// everything.
__device__ __forceinline__ std::uint64_t rank_key(float score, std::uint32_t index) {
    std::uint32_t bits = __float_as_uint(__fadd_rn(score, 0.0f));
    // Floats order like their bits when negative ones are flipped and the others get the top bit; ~ turns it round.
    bits = (bits & 0x80000000u) ? bits : ~(bits | 0x80000000u);
    if (score != score)
        bits = ~0u;
    return std::uint64_t(bits) << 32 | index;
}

// A key without the zeros between score and index, which need no digits: of 32 + index_bits bits.
__device__ __forceinline__ std::uint64_t short_key(float score, std::uint32_t index,
                                                   int index_bits) {
    const std::uint64_t key = rank_key(score, index);
    return key >> 32 << index_bits | std::uint32_t(key);
}

__device__ __forceinline__ std::uint32_t index_of(std::uint64_t key) { return std::uint32_t(key); }

}  // namespace cake::gpu
