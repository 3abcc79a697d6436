// Observing, scoring and selecting.
#include <limits>

#include "kernels/cuda/argmax.h"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/sample.h"
#include "kernels/cuda/scores.h"
#include "kernels/cuda/select.h"
#include "kernels/cuda/window.h"

namespace cake {

void CudaBackend::window_moments(Stream s, View q, View k, std::int64_t n_tokens, DType round_to,
                                 View mean, View variance, View sums) {
    const std::int64_t w = q.dim(0), n_q = q.dim(1), columns = n_tokens - w;
    CAKE_CHECK(w > 0 && n_q % k.dim(0) == 0 && k.dim(2) == q.dim(2),
               "window queries {} over keys {}", q.shape().str(), k.shape().str());
    CAKE_CHECK(columns >= 0 && n_tokens <= k.dim(1) &&
                   n_tokens <= std::numeric_limits<std::int32_t>::max() / 2,
               "a window of {} in {} tokens, keys {}", w, n_tokens, k.shape().str());
    CAKE_CHECK(k.dtype() == DType::F32 || k.dtype() == DType::BF16, "a window over {} keys",
               cake::name(k.dtype()));
    CAKE_CHECK(mean.elements() == n_q * columns && variance.elements() == n_q * columns &&
                   sums.elements() == 2,
               "moments {}, {} and sums {} of {} heads, {} columns", mean.shape().str(),
               variance.shape().str(), sums.shape().str(), n_q, columns);
    if (columns == 0)
        return fill_zero(s, sums);
    const gpu::WindowTask task{.dtype = q.dtype(),
                               .q = activation(q),
                               .cache_type = k.dtype(),
                               .k = k.data(),
                               .capacity = k.dim(1),
                               .n_tokens = int(n_tokens),
                               .window = int(w),
                               .n_q = int(n_q),
                               .n_kv = int(k.dim(0)),
                               .d_head = int(q.dim(2))};
    gpu::window_moments(queue(s), task, round_to,
                        scratch(s, gpu::window_scratch_bytes(n_q, w, n_tokens)), mean.as<float>(),
                        variance.as<float>(), sums.as<double>());
}

void CudaBackend::column_scores(Stream s, View mean, View variance, ColumnScore score, float gamma,
                                int pool, View out) {
    CAKE_CHECK(pool > 0 && pool % 2 == 1, "a pool of {} has no middle", pool);
    CAKE_CHECK(mean.shape() == out.shape() && variance.shape() == out.shape(),
               "scores {} from {} and {}", out.shape().str(), mean.shape().str(),
               variance.shape().str());
    gpu::column_scores(queue(s),
                       {.mean = mean.as<float>(),
                        .variance = variance.as<float>(),
                        .product = score == ColumnScore::Product,
                        .of_mean = score == ColumnScore::Variance ? 0.0f : 1.0f,
                        .of_variance = score == ColumnScore::Mean       ? 0.0f
                                       : score == ColumnScore::Variance ? 1.0f
                                                                        : gamma,
                        .pool = pool,
                        .heads = out.dim(0),
                        .n = out.dim(1)},
                       out.as<float>());
}

void CudaBackend::group_mean(Stream s, View x, float divisor, View out) {
    const std::int64_t n_q = x.dim(0), n_kv = out.dim(0), n = out.dim(1);
    CAKE_CHECK(n_q % n_kv == 0 && x.dim(1) == n, "{} averaged into {}", x.shape().str(),
               out.shape().str());
    gpu::group_mean(queue(s), x.as<float>(), divisor, n_kv, n_q / n_kv, n, out.as<float>());
}

void CudaBackend::top_k(Stream s, View score, View keep) {
    const std::int64_t rows = score.dim(0), n = score.dim(1), k = keep.dim(1);
    CAKE_CHECK(keep.dim(0) == rows, "{} rows of scores, {} of positions", rows, keep.dim(0));
    CAKE_CHECK(k >= 0 && k <= n && n <= std::numeric_limits<std::int32_t>::max() / 2,
               "the best {} of {} scores", k, n);
    if (k == 0)
        return;
    gpu::top_k(queue(s), score.as<float>(), int(rows), int(n), int(k),
               scratch(s, gpu::top_k_scratch_bytes(rows, k)), keep.as<std::int32_t>());
}

void CudaBackend::argmax(Stream s, View x, std::int64_t first, View best) {
    CAKE_CHECK(x.dim(1) > 0 && best.elements() == x.dim(0), "the best of {} into {}",
               x.shape().str(), best.shape().str());
    gpu::argmax(queue(s), x.as<float>(), x.dim(0), x.dim(1), std::uint32_t(first),
                reinterpret_cast<std::uint64_t*>(best.as<std::int64_t>()));
}

void CudaBackend::sample(Stream s, View x, int parts, View draws, View tokens) {
    const std::int64_t rows = tokens.elements();
    CAKE_CHECK(rows > 0 && parts > 0 && x.elements() / rows >= parts && x.elements() % rows == 0 &&
                   draws.shape() == Shape({rows, 5}),
               "{} tokens of {} in {} parts by {}", rows, x.shape().str(), parts,
               draws.shape().str());
    CAKE_CHECK(x.elements() / rows <= most_sampled_from, "a token of {}, at most {}",
               x.elements() / rows, most_sampled_from);
    gpu::sample(queue(s), x.as<float>(), int(rows), int(x.elements() / rows), parts,
                reinterpret_cast<const Draw*>(draws.as<double>()), tokens.as<std::int32_t>());
}

}  // namespace cake
