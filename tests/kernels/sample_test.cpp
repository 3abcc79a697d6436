#include <algorithm>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>

#include "kernels/draw.h"
#include "support/backends.h"
#include "support/reference.h"

namespace cake {
namespace {

using testing::Each;
using testing::ElementsAre;

constexpr float inf = std::numeric_limits<float>::infinity(),
                nan = std::numeric_limits<float>::quiet_NaN();
constexpr double just_below_1 = 1 - 0x1p-53;

std::vector<float> log_of(const std::vector<double>& p) {
    std::vector<float> out;
    for (const double x : p)
        out.push_back(float(std::log(x)));
    return out;
}

class Sample : public OnEachBackend {
protected:
    // A token of each row of x [draws, n], which is handed over in `parts` runs of columns.
    std::vector<TokenId> sample(const std::vector<float>& x, const std::vector<Draw>& draws,
                                int parts = 1) {
        const auto rows = std::int64_t(draws.size()), n = std::int64_t(x.size()) / rows;
        std::vector<float> in_runs;
        for (std::int64_t p = 0, begin = 0; p < parts; ++p) {
            const std::int64_t end = begin + n / parts + (p < n % parts ? 1 : 0);
            for (std::int64_t r = 0; r < rows; ++r)
                in_runs.insert(in_runs.end(), x.begin() + r * n + begin, x.begin() + r * n + end);
            begin = end;
        }
        const Tensor logits = upload(dev(), in_runs, {rows * n});
        const Tensor host_draws = Tensor::host(DType::F64, {rows, 5});
        std::memcpy(host_draws.view().data(), draws.data(), host_draws.bytes());
        const Tensor device_draws = dev().tensor(DType::F64, {rows, 5});
        dev().copy(stream, device_draws, host_draws);
        const Tensor tokens = dev().tensor(DType::I32, {rows});
        dev().sample(stream, logits, parts, device_draws, tokens);
        return download<TokenId>(dev(), tokens);
    }
    // Tokens of one row for some random numbers.
    std::vector<TokenId> at(const std::vector<float>& row, Draw draw,
                            const std::vector<double>& random) {
        std::vector<float> x;
        std::vector<Draw> draws;
        for (const double u : random) {
            x.insert(x.end(), row.begin(), row.end());
            draw.random = u;
            draws.push_back(draw);
        }
        return sample(x, draws);
    }
};
CAKE_ON_EACH_BACKEND(Sample);

TEST_P(Sample, FindsTheTokenInWhosePartTheRandomNumberLies) {
    const std::vector<float> row = log_of({0.25, 0.5, 0.15, 0.1});
    EXPECT_THAT(at(row, {.temperature = 1}, {0, 0.49, 0.51, 0.74, 0.76, 0.89, 0.91, just_below_1}),
                ElementsAre(1, 1, 0, 0, 2, 2, 3, 3));
    // 4/9, 2/9, 2/9, 1/9
    EXPECT_THAT(at(log_of({0.04, 0.16, 0.16, 0.64}), {.temperature = 2},
                   {0.44, 0.45, 0.66, 0.67, 0.88, 0.89}),
                ElementsAre(3, 1, 1, 2, 2, 0));
    EXPECT_THAT(at({7}, {.temperature = 1}, {0, just_below_1}), ElementsAre(0, 0));
}

TEST_P(Sample, TakesTheBestAtTemperatureZero) {
    const Draw best{.temperature = 0, .top_k = 3, .top_p = 0.9, .min_p = 0.5, .random = 0.9};
    EXPECT_THAT(sample({1, 3, 2, -1, -3, -2, 2, 2, 1, nan, -inf, nan}, {best, best, best, best}),
                ElementsAre(1, 0, 0, 0));
}

TEST_P(Sample, KeepsTheBestKAndTheLowerOfEqualOnes) {
    const Draw draw{.temperature = 1, .top_k = 2};
    EXPECT_THAT(at({1, 2, 0, 2.5}, draw, {0, just_below_1}), ElementsAre(3, 1));
    EXPECT_THAT(at({0, 1, 1, 1}, draw, {0, 0.49, 0.51, just_below_1}), ElementsAre(1, 1, 2, 2));
    EXPECT_THAT(at({0, 1, 1, 1}, {.temperature = 1, .top_k = 9}, {just_below_1}), ElementsAre(0));
    EXPECT_THAT(at({0, 1, 1, 1}, {.temperature = 1, .top_k = 1}, {just_below_1}), ElementsAre(1));
}

TEST_P(Sample, KeepsTheSmallestSetThatReachesTopP) {
    const std::vector<float> row = log_of({0.1, 0.5, 0.15, 0.25});
    const auto last = [&](double top_p) {
        return at(row, {.temperature = 1, .top_p = top_p}, {just_below_1})[0];
    };
    EXPECT_EQ(last(1e-6), 1);
    EXPECT_EQ(last(0.49), 1);
    EXPECT_EQ(last(0.51), 3);
    EXPECT_EQ(last(0.76), 2);
    EXPECT_EQ(last(0.91), 0);
    // 0.25 each, and sums that are exact.
    EXPECT_THAT(at({0, 0, 0, 0}, {.temperature = 1, .top_p = 0.5}, {just_below_1}), ElementsAre(1));
}

TEST_P(Sample, KeepsTokensNotMuchLessLikelyThanTheLikeliest) {
    const std::vector<float> row = log_of({0.1, 0.5, 0.15, 0.25});
    const auto last = [&](double min_p) {
        return at(row, {.temperature = 1, .min_p = min_p}, {just_below_1})[0];
    };
    EXPECT_EQ(last(0.19), 0);
    EXPECT_EQ(last(0.21), 2);
    EXPECT_EQ(last(0.49), 3);
    EXPECT_EQ(last(0.51), 1);
    EXPECT_EQ(last(1), 1);
}

TEST_P(Sample, TopPCountsWhatTopKLeft) {
    // Of 0.4, 0.3, 0.2, 0.1 the best two are 0.57 and 0.43 of their sum.
    const std::vector<float> row = log_of({0.4, 0.3, 0.2, 0.1});
    EXPECT_THAT(at(row, {.temperature = 1, .top_p = 0.5}, {just_below_1}), ElementsAre(1));
    EXPECT_THAT(at(row, {.temperature = 1, .top_k = 2, .top_p = 0.5}, {just_below_1}),
                ElementsAre(0));
}

TEST_P(Sample, NeverDrawsWhatIsNoNumberOrMinusInfinity) {
    const Draw plain{.temperature = 1}, filtered{.temperature = 1, .top_k = 3, .top_p = 0.999};
    for (const Draw& draw : {plain, filtered}) {
        EXPECT_THAT(at({nan, 0, -inf, 0}, draw, {0, 0.49, 0.51, just_below_1}),
                    ElementsAre(1, 1, 3, 3));
        EXPECT_THAT(at({0, inf, 1, inf}, draw, {0, 0.49, 0.51, just_below_1}),
                    ElementsAre(1, 1, 3, 3));
    }
    EXPECT_THAT(at({3, 4, 5}, {.temperature = 1e-300}, {0, just_below_1}), Each(2));
    EXPECT_THAT(at({3, 4, 5}, {.temperature = 1e300}, {0.32, 0.34, 0.67}), ElementsAre(2, 1, 0));
    // Where nothing else is there, any token is as good as another.
    EXPECT_THAT(at({nan, -inf}, plain, {0.49, 0.51}), ElementsAre(0, 1));
    EXPECT_THAT(at({nan, -inf, nan}, {.temperature = 1, .top_k = 1}, {0.99}), ElementsAre(0));
}

TEST_P(Sample, AgreesWithTheReference) {
    std::mt19937 random(1);
    std::uniform_real_distribution<double> part(0, 1);
    const std::vector<Draw> filters{{.temperature = 1},
                                    {.temperature = 0.3},
                                    {.temperature = 4},
                                    {.temperature = 1, .top_k = 40},
                                    {.temperature = 1, .top_p = 0.9},
                                    {.temperature = 2, .top_p = 0.999},
                                    {.temperature = 1, .min_p = 0.05},
                                    {.temperature = 0.7, .top_k = 50, .top_p = 0.95, .min_p = 0.01},
                                    {.temperature = 0}};
    for (const std::int64_t n : {1, 31, 33, 300, 1025, 5000})
        for (const bool ties : {false, true}) {
            std::vector<float> x;
            std::vector<Draw> draws;
            for (Draw draw : filters) {
                for (float value : random_values(n, unsigned(random())))
                    x.push_back(ties ? std::round(2 * value) / 2 : 2 * value);
                draw.random = part(random);
                draws.push_back(draw);
            }
            for (const int parts : {1, 2, 3, 8}) {
                if (parts > n)
                    continue;
                const std::vector<TokenId> got = sample(x, draws, parts);
                for (std::size_t r = 0; r < draws.size(); ++r) {
                    SCOPED_TRACE(fmt::format("row {} of {} columns in {} parts", r, n, parts));
                    const auto row = std::span(x).subspan(r * std::size_t(n), std::size_t(n));
                    const Draw& d = draws[r];
                    if (d.temperature == 0) {
                        EXPECT_EQ(got[r], std::max_element(row.begin(), row.end()) - row.begin());
                        continue;
                    }
                    const auto shares =
                        reference::token_shares(row, d.temperature, d.top_k, d.top_p, d.min_p);
                    const auto mine =
                        std::find_if(shares.begin(), shares.end(),
                                     [&](const auto& share) { return share.token == got[r]; });
                    ASSERT_NE(mine, shares.end()) << got[r] << " was filtered out";
                    EXPECT_GE(d.random, mine->begin - 1e-11);
                    EXPECT_LT(d.random, mine->end + 1e-11);
                }
            }
        }
}

TEST_P(Sample, DrawsFromALargeVocabulary) {
    constexpr std::int64_t n = 128'256;
    std::vector<float> x = random_values(n, 3);
    for (float& value : x)
        value *= 2;
    for (const Draw& draw : {Draw{.temperature = 1, .random = 0.7},
                             Draw{.temperature = 1, .top_k = 50, .top_p = 0.9, .random = 0.7}}) {
        const TokenId got = sample(x, {draw}, 3)[0];
        const auto shares =
            reference::token_shares(x, draw.temperature, draw.top_k, draw.top_p, draw.min_p);
        const auto want = std::find_if(shares.begin(), shares.end(),
                                       [&](const auto& share) { return draw.random < share.end; });
        EXPECT_EQ(got, want->token);
    }
}

TEST_P(Sample, RefusesDrawsOfAnotherNumberOfRows) {
    const Tensor logits = dev().tensor(DType::F32, {4, 10}), tokens = dev().tensor(DType::I32, {4}),
                 draws = dev().tensor(DType::F64, {3, 5});
    EXPECT_THROW(dev().sample(stream, logits, 1, draws, tokens), Error);
    EXPECT_THROW(dev().sample(stream, logits, 11, dev().tensor(DType::F64, {4, 5}), tokens), Error);
}

}  // namespace
}  // namespace cake
