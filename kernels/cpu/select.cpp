// The k best of n scores.
#include <algorithm>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/rank_key.h"

namespace cake {

void CpuBackend::top_k(Stream, View score, View keep) {
    const std::int64_t n_kv = score.dim(0), n = score.dim(1), k = keep.dim(1);
    CAKE_CHECK(keep.dim(0) == n_kv, "{} rows of scores, {} of positions", n_kv, keep.dim(0));
    CAKE_CHECK(k >= 0 && k <= n, "the best {} of {} scores", k, n);
    if (k == 0)
        return;
    const float* scores = score.as<float>();
    std::int32_t* kept = keep.as<std::int32_t>();
    parallel_for(threads_, n_kv, [&](std::int64_t g) {
        std::vector<std::uint64_t> keys(static_cast<std::size_t>(n));
        for (std::int64_t i = 0; i < n; ++i)
            keys[std::size_t(i)] = rank_key(scores[g * n + i], std::uint32_t(i));
        if (k < n)
            std::nth_element(keys.begin(), keys.begin() + k, keys.end());
        std::sort(keys.begin(), keys.begin() + k);
        for (std::int64_t i = 0; i < k; ++i)
            kept[g * k + i] = std::int32_t(index_of(keys[std::size_t(i)]));
    });
}

void CpuBackend::argmax(Stream, View x, std::int64_t first, View best) {
    const std::int64_t n = x.dim(1);
    CAKE_CHECK(n > 0 && best.elements() == x.dim(0), "the best of {} into {}", x.shape().str(),
               best.shape().str());
    const float* const values = x.as<float>();
    std::int64_t* const keys = best.as<std::int64_t>();
    parallel_for(threads_, x.dim(0), [&](std::int64_t r) {
        std::uint64_t least = rank_key(values[r * n], std::uint32_t(first));
        for (std::int64_t i = 1; i < n; ++i)
            least = std::min(least, rank_key(values[r * n + i], std::uint32_t(first + i)));
        keys[r] = std::int64_t(least);
    });
}

}  // namespace cake
