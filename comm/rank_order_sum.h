// The arithmetic of an all-reduce, made in rank order.
//
// A floating-point sum depends on its order. MPI_Allreduce chooses an algorithm by the message's length, so with three
// or more ranks a row's sum would depend on how many rows travel with it: on the prefill chunk and on the batch. Adding
// rank 0's value, rank 1's, ... for every element makes it depend on that element alone.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace cake {

// out[i] = parts[0][i] + parts[1][i] + ..., in F32, rounded to T once. `out` may be one of the parts.
template <typename T>
void add_in_rank_order(std::span<const T* const> parts, std::int64_t n, T* out) {
    constexpr std::int64_t kBlock = 1024;  // accumulators that stay in the first cache
    std::array<float, kBlock> sum;
    for (std::int64_t first = 0; first < n; first += kBlock) {
        const std::int64_t count = std::min(kBlock, n - first);
        for (std::int64_t i = 0; i < count; ++i)
            sum[i] = to_float(parts[0][first + i]);
        for (std::size_t r = 1; r < parts.size(); ++r)
            for (std::int64_t i = 0; i < count; ++i)
                sum[i] += to_float(parts[r][first + i]);
        for (std::int64_t i = 0; i < count; ++i)
            out[first + i] = from_float<T>(sum[i]);
    }
}

}  // namespace cake
