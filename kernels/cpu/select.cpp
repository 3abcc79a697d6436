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

}  // namespace cake
