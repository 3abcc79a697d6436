// The kernels of the AVX2 table, which a processor with AVX-512 would never run otherwise.
#include "kernels/cpu/wide_cache.h"

#include <vector>

#include "support/backends.h"
#include "support/near.h"
#include "support/reference.h"

namespace cake {
namespace {

using CacheKernelsOf = testing::TestWithParam<const CacheKernels*>;
INSTANTIATE_TEST_SUITE_P(, CacheKernelsOf, testing::Values(&avx2_cache_kernels(), &cache_kernels()),
                         [](const auto& info) {
                             return fmt::format("{}_{}", info.param->name, info.index);
                         });

std::vector<float> times(std::vector<float> x, float factor) {
    for (float& value : x)
        value *= factor;
    return x;
}

TEST_P(CacheKernelsOf, TakeTheMomentsOfTheWindow) {
    constexpr int w = 11, d = 24, columns = 133, S = columns + w;
    const std::vector<float> q = random_values(w * d, 1), k = random_values(S * d, 2);
    const CacheKernels& kernels = *GetParam();
    const int lanes =
        (w + kernels.lane_multiple - 1) / kernels.lane_multiple * kernels.lane_multiple;
    std::vector<float> lanes_of_q(std::size_t(d * lanes));
    for (int i = 0; i < w; ++i)
        for (int c = 0; c < d; ++c)
            lanes_of_q[std::size_t(c * lanes + i)] =
                q[std::size_t(i * d + c)] / std::sqrt(float(d));
    const WindowHeads heads{.q = lanes_of_q.data(),
                            .k = k.data(),
                            .dtype = DType::F32,
                            .n_tokens = S,
                            .window = w,
                            .lanes = lanes,
                            .group = 1,
                            .d_head = d};
    std::vector<float> scratch(std::size_t(kernels.window_scratch(lanes, d))),
        max(std::size_t(lanes), 0.0f), inverse(std::size_t(lanes), 0.0f);
    std::vector<double> sum(std::size_t(lanes), 0.0);
    kernels.window_sums(heads, 0, S, scratch.data(), max.data(), sum.data());
    for (int i = 0; i < lanes; ++i)
        inverse[std::size_t(i)] = i < w ? float(1 / sum[std::size_t(i)]) : 0.0f;

    std::vector<float> mean(columns), variance(columns);
    double entropy = 0, variance_sum = 0;
    kernels.window_moments(heads, {max.data(), inverse.data()}, 0, columns, DType::F32,
                           scratch.data(),
                           {mean.data(), variance.data(), columns, &entropy, &variance_sum});
    const auto want = reference::moments(reference::window_attention(q, k, S, w, 1, 1, d));
    EXPECT_THAT(mean, NearTo(want.mean[0], {.abs = 1e-12, .rel = 3e-5}));
    EXPECT_THAT(variance, NearTo(want.variance[0], {.abs = 1e-12, .rel = 6e-5}));
    EXPECT_THAT(std::vector({entropy, variance_sum}), NearTo({want.H, want.V}, {.rel = 1e-5}));
}

TEST_P(CacheKernelsOf, AddUpTheColumnsOfAttention) {
    constexpr int group = 3, d = 24, S = 133;
    const std::vector<float> q = random_values(S * group * d, 1), k = random_values(S * d, 2);
    const CacheKernels& kernels = *GetParam();
    const CausalHeads heads{.q = q.data(),
                            .k = k.data(),
                            .dtype = DType::F32,
                            .first = 0,
                            .n = S,
                            .n_q = group,
                            .group = group,
                            .d_head = d};
    std::vector<float> scratch(std::size_t(kernels.column_scratch(d))), max(group * S),
        inverse(group * S), sums(group * S);
    std::vector<double> sum(group * S);
    kernels.row_sums(heads, 0, 50, scratch.data(), max.data(), sum.data());
    kernels.row_sums(heads, 50, S, scratch.data(), max.data(), sum.data());
    for (std::size_t i = 0; i < sum.size(); ++i)
        inverse[i] = float(1 / sum[i]);
    const int border = 2 * kernels.column_block;
    kernels.column_sums(heads, max.data(), inverse.data(), border, S, scratch.data(), sums.data(),
                        S);
    kernels.column_sums(heads, max.data(), inverse.data(), 0, border, scratch.data(), sums.data(),
                        S);
    const auto want = reference::column_sums(q, k, S, group, 1, d);
    for (std::size_t h = 0; h < group; ++h)
        EXPECT_THAT(std::vector<float>(sums.begin() + std::ptrdiff_t(h * S),
                                       sums.begin() + std::ptrdiff_t((h + 1) * S)),
                    NearTo(want[h], {.abs = 1e-12, .rel = 4e-5}));
}

TEST_P(CacheKernelsOf, AttendToRunsOfSlots) {
    constexpr int group = 7, d = 40;
    const std::vector<float> q = random_values(group * d, 1),
                             scaled = times(q, 1 / std::sqrt(float(d)));
    const std::vector<float> k = random_values(133 * d, 2), v = random_values(133 * d, 3);
    const SlotRun runs[] = {{k.data(), v.data(), 64},
                            {k.data() + 64 * d, v.data() + 64 * d, 64},
                            {k.data() + 128 * d, v.data() + 128 * d, 5}};
    std::vector<float> weights(group * kDecodeSplit), out(group * d), max(group), sum(group);
    GetParam()->decode_split({scaled.data(), runs, 3, group, d, DType::F32},
                             {weights.data(), out.data(), max.data(), sum.data()});
    for (std::size_t h = 0; h < group; ++h) {
        const reference::Row a = reference::attention_row(&q[h * d], k.data(), 133, d);
        reference::Row want(d);
        for (std::size_t j = 0; j < 133; ++j)
            for (std::size_t c = 0; c < d; ++c)
                want[c] += a[j] * double(v[j * d + c]);
        const auto row = weights.begin() + std::ptrdiff_t(h * kDecodeSplit);
        EXPECT_THAT(times({row, row + 133}, 1 / sum[h]), NearTo(a, {.abs = 1e-30, .rel = 5e-5}));
        const auto result = out.begin() + std::ptrdiff_t(h * d);
        EXPECT_THAT(times({result, result + d}, 1 / sum[h]),
                    NearTo(want, {.abs = 1e-4, .rel = 1e-5}));
    }
}

}  // namespace
}  // namespace cake
