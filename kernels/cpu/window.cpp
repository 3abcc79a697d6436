// Statistics of the observation window, and scores made of them (docs/algorithm.md, sections 1 and 3).
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "kernels/cpu/cpu_backend.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/wide_cache.h"

namespace cake {

namespace {

constexpr std::int64_t kKeysPerTask = 1024;

// Queries [w, n_q, d_head] as WindowHeads wants them, for all heads: [n_q, d_head, lanes].
void transpose_queries(int threads, const float* q, int w, int n_q, int d_head, int lanes,
                       float* out) {
    const float scale = 1.0f / std::sqrt(float(d_head));
    parallel_for(threads, n_q, [&](std::int64_t h) {
        float* head = out + h * d_head * lanes;
        std::fill(head, head + std::int64_t(d_head) * lanes, 0.0f);
        for (int i = 0; i < w; ++i)
            for (int c = 0; c < d_head; ++c)
                head[std::int64_t(c) * lanes + i] =
                    q[(std::int64_t(i) * n_q + h) * d_head + c] * scale;
    });
}

// Makes the largest score and 1 / sum of each row out of those of blocks of keys, taken in order. Results lie in the
// first block's places. Lanes that are no row get 0 and 0.
void join_blocks(int w, int lanes, std::int64_t rows, std::int64_t n_blocks, float* max,
                 const double* sum, float* inverse) {
    for (std::int64_t i = 0; i < rows; ++i) {
        float most = std::numeric_limits<float>::lowest();
        for (std::int64_t b = 0; b < n_blocks; ++b)
            most = std::max(most, max[b * rows + i]);
        double total = 0;
        for (std::int64_t b = 0; b < n_blocks; ++b)
            total += sum[b * rows + i] * std::exp(double(max[b * rows + i]) - double(most));
        const bool real = i % lanes < w;
        max[i] = real ? most : 0.0f;
        inverse[i] = real ? float(1.0 / total) : 0.0f;
    }
}

}  // namespace

// Two passes over the keys: the softmax of a row needs its sum before moments of columns can be taken. Work is dealt
// out by (KV head, block of keys); blocks are the same whatever the number of threads, and joined in order.
void CpuBackend::window_moments(Stream, View q, View k, std::int64_t n_tokens, DType round_to,
                                View mean, View variance, View sums) {
    const int w = int(q.dim(0)), n_q = int(q.dim(1)), d_head = int(q.dim(2)), n_kv = int(k.dim(0));
    const std::int64_t columns = n_tokens - w;
    CAKE_CHECK(w > 0 && n_q % n_kv == 0 && k.dim(2) == d_head, "window queries {} over keys {}",
               q.shape().str(), k.shape().str());
    CAKE_CHECK(columns >= 0 && n_tokens <= k.dim(1), "a window of {} in {} tokens, keys {}", w,
               n_tokens, k.shape().str());
    CAKE_CHECK(k.dtype() == DType::F32 || k.dtype() == DType::BF16, "a window over {} keys",
               cake::name(k.dtype()));
    CAKE_CHECK(mean.elements() == n_q * columns && variance.elements() == n_q * columns &&
                   sums.elements() == 2,
               "moments {}, {} and sums {} of {} heads, {} columns", mean.shape().str(),
               variance.shape().str(), sums.shape().str(), n_q, columns);
    sums.as<double>()[0] = sums.as<double>()[1] = 0;
    if (columns == 0)
        return;

    const CacheKernels& wide = cache_kernels();
    const int group = n_q / n_kv;
    const int lanes = (w + wide.lane_multiple - 1) / wide.lane_multiple * wide.lane_multiple;
    const Tensor packed = Tensor::host(DType::F32, {n_q, d_head, lanes});
    transpose_queries(threads_, q.as<float>(), w, n_q, d_head, lanes, packed.view().as<float>());
    const auto heads_of = [&](std::int64_t g) {
        return WindowHeads{
            .q = packed.view().as<float>() + g * group * d_head * lanes,
            .k = static_cast<const std::byte*>(k.data()) +
                 bytes_of(k.dtype(), g * k.dim(1) * d_head),
            .dtype = k.dtype(),
            .n_tokens = n_tokens,
            .window = w,
            .lanes = lanes,
            .group = group,
            .d_head = d_head,
        };
    };
    const std::int64_t scratch_elements = (wide.window_scratch(lanes, d_head) + 15) / 16 * 16;
    const Tensor scratch = Tensor::host(DType::F32, {threads_, scratch_elements});
    const auto scratch_of = [&](int worker) {
        return scratch.view().as<float>() + worker * scratch_elements;
    };

    const std::int64_t rows = std::int64_t(group) * lanes;  // of one KV head
    const std::int64_t n_blocks = (n_tokens + kKeysPerTask - 1) / kKeysPerTask;
    std::vector<float> max(std::size_t(n_kv * n_blocks * rows)), inverse(std::size_t(n_kv * rows));
    std::vector<double> sum(max.size());
    parallel_for_workers(threads_, n_kv * n_blocks, [&](std::int64_t task, int worker) {
        const std::int64_t begin = task % n_blocks * kKeysPerTask;
        wide.window_sums(heads_of(task / n_blocks), begin, std::min(begin + kKeysPerTask, n_tokens),
                         scratch_of(worker), max.data() + task * rows, sum.data() + task * rows);
    });
    for (std::int64_t g = 0; g < n_kv; ++g) {
        const std::int64_t at = g * n_blocks * rows;
        join_blocks(w, lanes, rows, n_blocks, max.data() + at, sum.data() + at,
                    inverse.data() + g * rows);
    }

    const std::int64_t column_blocks = (columns + kKeysPerTask - 1) / kKeysPerTask;
    std::vector<double> entropy(std::size_t(n_kv * column_blocks * group)),
        variance_sum(entropy.size());
    parallel_for_workers(threads_, n_kv * column_blocks, [&](std::int64_t task, int worker) {
        const std::int64_t g = task / column_blocks, begin = task % column_blocks * kKeysPerTask;
        const WindowMoments out{
            .mean = mean.as<float>() + g * group * columns,
            .variance = variance.as<float>() + g * group * columns,
            .columns = columns,
            .entropy = entropy.data() + task * group,
            .variance_sum = variance_sum.data() + task * group,
        };
        const WindowRows found{max.data() + g * n_blocks * rows, inverse.data() + g * rows};
        wide.window_moments(heads_of(g), found, begin, std::min(begin + kKeysPerTask, columns),
                            round_to, scratch_of(worker), out);
    });
    for (int h = 0; h < n_q; ++h) {
        double head_entropy = 0, head_variance = 0;
        for (std::int64_t b = 0; b < column_blocks; ++b) {
            const auto at = std::size_t((h / group * column_blocks + b) * group + h % group);
            head_entropy += entropy[at];
            head_variance += variance_sum[at];
        }
        sums.as<double>()[0] += head_entropy;
        sums.as<double>()[1] += head_variance;
    }
}

void CpuBackend::column_scores(Stream, View mean, View variance, ColumnScore score, float gamma,
                               int pool, View out) {
    const std::int64_t n_q = out.dim(0), n = out.dim(1), r = (pool - 1) / 2;
    CAKE_CHECK(pool > 0 && pool % 2 == 1, "a pool of {} has no middle", pool);
    CAKE_CHECK(mean.shape() == out.shape() && variance.shape() == out.shape(),
               "scores {} from {} and {}", out.shape().str(), mean.shape().str(),
               variance.shape().str());
    const float *means = mean.as<float>(), *variances = variance.as<float>();
    float* scores = out.as<float>();
    const auto column = [&](std::int64_t at) -> double {
        switch (score) {
            case ColumnScore::Mean: return means[at];
            case ColumnScore::Variance: return variances[at];
            case ColumnScore::MeanPlusVariance: return means[at] + double(gamma) * variances[at];
            case ColumnScore::Product: return double(means[at]) * variances[at];
        }
        return 0;
    };
    parallel_for(threads_, n_q, [&](std::int64_t h) {
        std::vector<double> padded(std::size_t(n + 2 * r), 0.0);  // zeros outside
        for (std::int64_t i = 0; i < n; ++i)
            padded[std::size_t(r + i)] = column(h * n + i);
        for (std::int64_t i = 0; i < n; ++i) {
            double sum = 0;
            for (std::int64_t j = i; j < i + pool; ++j)
                sum += padded[std::size_t(j)];
            scores[h * n + i] = float(sum / pool);
        }
    });
}

void CpuBackend::group_mean(Stream, View x, float divisor, View out) {
    const std::int64_t n_q = x.dim(0), n_kv = out.dim(0), n = out.dim(1), group = n_q / n_kv;
    CAKE_CHECK(n_q % n_kv == 0 && x.dim(1) == n, "{} averaged into {}", x.shape().str(),
               out.shape().str());
    const float* from = x.as<float>();
    float* to = out.as<float>();
    parallel_for(threads_, n_kv, [&](std::int64_t g) {
        for (std::int64_t i = 0; i < n; ++i) {
            double sum = 0;
            for (std::int64_t h = g * group; h < (g + 1) * group; ++h)
                sum += from[h * n + i];
            to[g * n + i] = float(sum / divisor);
        }
    });
}

}  // namespace cake
