// The k best of n scores (kernels/backend.h: top_k).
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "kernels/cuda/launch.h"

namespace cake::gpu {

inline constexpr int top_k_bins = 2048;

// Device memory that top_k works in: of each row its winners' keys (8 bytes, up to a power of two of them to sort), where
// the selection stands, and a count for each digit.
constexpr std::size_t top_k_scratch_bytes(std::int64_t rows, std::int64_t k) {
    return std::size_t(rows) *
           (std::bit_ceil(std::uint64_t(k)) * 8 + 16 + top_k_bins * sizeof(std::uint32_t));
}

// `scratch`: top_k_scratch_bytes() of them. score: [rows, n]; keep: [rows, k], best first; 0 < k <= n.
void top_k(Queue queue, const float* score, int rows, int n, int k, void* scratch,
           std::int32_t* keep);

}  // namespace cake::gpu
