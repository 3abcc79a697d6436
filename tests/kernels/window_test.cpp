#include <limits>

#include <gmock/gmock.h>

#include "support/backends.h"
#include "support/near.h"
#include "support/reference.h"

namespace cake {
namespace {

std::vector<double> flat(const reference::Rows& rows) {
    std::vector<double> out;
    for (const auto& row : rows)
        out.insert(out.end(), row.begin(), row.end());
    return out;
}

struct WindowCase {
    std::int64_t n_q, n_kv, d, w, S;
    DType dtype;
};

struct WindowResult {
    std::vector<float> mean, variance;
    std::vector<double> sums;
};

// q: [w, n_q, d]; k: [n_kv, S, d], put into a scratch with room, NaN beyond the prompt: nothing may read that.
WindowResult window_moments(Backend& dev, DType activations, const WindowCase& c,
                            const std::vector<float>& q, const std::vector<float>& k,
                            DType round_to = DType::F32) {
    const std::int64_t capacity = c.S + 3;
    std::vector<float> keys(std::size_t(c.n_kv * capacity * c.d),
                            std::numeric_limits<float>::quiet_NaN());
    for (std::int64_t g = 0; g < c.n_kv; ++g)
        std::copy_n(k.begin() + g * c.S * c.d, c.S * c.d, keys.begin() + g * capacity * c.d);
    const Tensor q_dev = upload(dev, q, {c.w, c.n_q, c.d}, activations);
    const Tensor k_dev = upload(dev, keys, {c.n_kv, capacity, c.d}, c.dtype);
    const Tensor mean = dev.tensor(DType::F32, {c.n_q, c.S - c.w});
    const Tensor variance = dev.tensor(DType::F32, {c.n_q, c.S - c.w});
    const Tensor sums = dev.tensor(DType::F64, {2});
    dev.window_moments({}, q_dev, k_dev, c.S, round_to, mean, variance, sums);
    return {download<float>(dev, mean), download<float>(dev, variance),
            download<double>(dev, sums)};
}

class Window : public OnEachBackend {
protected:
    WindowResult run(const WindowCase& c, const std::vector<float>& q, const std::vector<float>& k,
                     DType round_to = DType::F32) {
        return window_moments(dev(), activations(), c, q, k, round_to);
    }
    std::vector<float> queries(const WindowCase& c) {
        return random_values(c.w * c.n_q * c.d, 1, activations());
    }
    std::vector<float> keys(const WindowCase& c) {
        return random_values(c.n_kv * c.S * c.d, 2, c.dtype);
    }
    reference::Moments want(const WindowCase& c, const std::vector<float>& q,
                            const std::vector<float>& k) {
        return reference::moments(
            reference::window_attention(q, k, std::size_t(c.S), std::size_t(c.w),
                                        std::size_t(c.n_q), std::size_t(c.n_kv), std::size_t(c.d)));
    }
};
CAKE_ON_EACH_BACKEND(Window);

TEST_P(Window, AgreesWithTheReference) {
    // Windows below, at and above a vector; groups of 1, 3 and 7; heads that are no whole vectors; prompts around the
    // borders of key blocks.
    const std::vector<int> all_columns{1, 2, 31, 64, 65, 100, 1024, 1030}, some_columns{1, 65, 530};
    for (const auto& [n_q, n_kv, d, w] :
         {std::array{2, 2, 64, 32}, std::array{9, 3, 64, 32}, std::array{7, 1, 40, 5},
          std::array{4, 2, 128, 16}, std::array{4, 1, 8, 33}, std::array{2, 1, 16, 1},
          std::array{5, 1, 20, 70}})
        for (const DType dtype : {DType::F32, DType::BF16})
            for (const int columns : small() ? some_columns : all_columns) {
                const WindowCase c{n_q, n_kv, d, w, columns + w, dtype};
                SCOPED_TRACE(fmt::format("{} over {} heads of {}, window {} of {} tokens, {}", n_q,
                                         n_kv, d, w, c.S, name(dtype)));
                const auto q = queries(c), k = keys(c);
                const WindowResult got = run(c, q, k);
                const reference::Moments m = want(c, q, k);
                // Scores of +-50 have an error of some 1e-6 in F32, and so have the probabilities, relative.
                EXPECT_THAT(got.mean, NearTo(flat(m.mean), {.abs = 1e-12, .rel = 3e-5}));
                EXPECT_THAT(got.variance, NearTo(flat(m.variance), {.abs = 1e-12, .rel = 6e-5}));
                EXPECT_THAT(got.sums, NearTo({m.H, m.V}, {.abs = 1e-9, .rel = 1e-5}));
            }
}

TEST_P(Window, SumsOverHeadsAreThoseOfTheHeads) {
    const WindowCase all{6, 3, 16, 8, 70, DType::F32};
    const auto q = queries(all), k = keys(all);
    const WindowResult whole = run(all, q, k);
    double H = 0, V = 0;
    for (std::int64_t g = 0; g < all.n_kv; ++g) {  // as if each group lived on a rank of its own
        const WindowCase part{2, 1, all.d, all.w, all.S, DType::F32};
        std::vector<float> q_part;
        for (std::int64_t i = 0; i < all.w; ++i)
            q_part.insert(q_part.end(), q.begin() + (i * 6 + g * 2) * all.d,
                          q.begin() + (i * 6 + g * 2 + 2) * all.d);
        const std::vector<float> k_part(k.begin() + g * all.S * all.d,
                                        k.begin() + (g + 1) * all.S * all.d);
        const WindowResult got = run(part, q_part, k_part);
        EXPECT_TRUE(std::equal(got.mean.begin(), got.mean.end(),
                               whole.mean.begin() + g * 2 * (all.S - all.w)));
        H += got.sums[0];
        V += got.sums[1];
    }
    EXPECT_THAT(whole.sums, NearTo({H, V}, {.rel = 1e-14}));
}

TEST_P(Window, GivesTheSameBitsEachTime) {
    const WindowCase c{6, 2, 32, 40, 700, activations()};
    const auto q = queries(c), k = keys(c);
    const WindowResult once = run(c, q, k), again = run(c, q, k);
    EXPECT_EQ(again.mean, once.mean);
    EXPECT_EQ(again.variance, once.variance);
    EXPECT_EQ(again.sums, once.sums);
}

TEST_P(Window, HasNoVarianceInAWindowOfOne) {
    const WindowCase c{3, 1, 16, 1, 40, DType::F32};
    const WindowResult got = run(c, queries(c), keys(c));
    EXPECT_THAT(got.variance, testing::Each(0.0f));
    EXPECT_EQ(got.sums[1], 0.0);
    EXPECT_GT(got.sums[0], 0.0);
}

TEST_P(Window, SeesNothingWhereThePromptIsTheWindow) {
    const WindowCase c{4, 2, 16, 12, 12, DType::F32};
    const WindowResult got = run(c, queries(c), keys(c));
    EXPECT_THAT(got.mean, testing::IsEmpty());
    EXPECT_THAT(got.sums, testing::ElementsAre(0.0, 0.0));
}

TEST_P(Window, HidesLaterTokensFromEachRow) {
    // Equal scores: row i attends to S - w + i + 1 tokens alike, and the moments are those of 1 / that.
    const WindowCase c{1, 1, 8, 3, 7, DType::F32};
    const WindowResult got = run(c, std::vector<float>(24, 0.0f), keys(c));
    const double mean = (1 / 5.0 + 1 / 6.0 + 1 / 7.0) / 3;
    double variance = 0;
    for (int n : {5, 6, 7})
        variance += (1.0 / n - mean) * (1.0 / n - mean) / 2;
    EXPECT_THAT(got.mean, NearTo(std::vector<double>(4, mean), {.rel = 1e-6}));
    EXPECT_THAT(got.variance, NearTo(std::vector<double>(4, variance), {.rel = 1e-5}));
}

TEST_P(Window, KeepsTheSmallVariancesOfLongPrompts) {
    // At 20,000 tokens most probabilities are near 5e-5, their variances near 1e-10.
    const WindowCase c{1, 1, 8, 32, 20000, DType::F32};
    std::vector<float> q = queries(c);
    for (float& x : q)
        x *= 0.125f;  // exact in any type
    const auto k = keys(c);
    const WindowResult got = run(c, q, k);
    const reference::Moments m = want(c, q, k);
    EXPECT_THAT(got.variance, NearTo(flat(m.variance), {.rel = 2e-5}));
    EXPECT_THAT(got.sums, NearTo({m.H, m.V}, {.rel = 1e-5}));
}

TEST_P(Window, CountsProbabilitiesNearOneAndNearNothing) {
    // One key takes all: A = 1 there and e^-30, below the 1e-10 of the logarithm, elsewhere.
    const WindowCase c{1, 1, 16, 4, 36, DType::F32};
    std::vector<float> q(4 * 16, 0.0f), k(36 * 16, 0.0f);
    for (int i = 0; i < 4; ++i)
        q[std::size_t(i * 16)] = 4;
    k[5 * 16] = 30;  // q . k / sqrt(16)
    const WindowResult got = run(c, q, k);
    const reference::Moments m = want(c, q, k);
    EXPECT_THAT(got.mean, NearTo(flat(m.mean), {.rel = 1e-5}));
    EXPECT_THAT(got.sums, NearTo({m.H, m.V}, {.abs = 1e-13, .rel = 1e-4}));
}

TEST_P(Window, RoundsProbabilitiesToTheModelsTypeFirst) {
    const WindowCase c{3, 1, 16, 8, 61, DType::F32};
    const std::vector<float> q(std::size_t(8 * 3 * 16),
                               0.0f);  // A = 1 / visible tokens: no value near a border
    const auto k = keys(c);
    for (const DType type : {DType::BF16, DType::F16}) {
        const WindowResult got = run(c, q, k, type);
        const reference::Moments m = reference::moments(
            reference::window_attention(q, k, 61, 8, 3, 1, 16), [&](double a) -> double {
                return type == DType::BF16 ? to_float(to_bf16(float(a)))
                                           : to_float(to_f16(float(a)));
            });
        EXPECT_THAT(got.mean, NearTo(flat(m.mean), {.rel = 1e-6})) << name(type);
        EXPECT_THAT(got.variance, NearTo(flat(m.variance), {.rel = 1e-6})) << name(type);
        EXPECT_THAT(got.sums, NearTo({m.H, m.V}, {.rel = 1e-6})) << name(type);
    }
}

TEST(WindowOnCpu, GivesTheSameBitsOnAnyNumberOfThreads) {
    const WindowCase c{6, 2, 64, 32, 3000, DType::BF16};
    const auto q = random_values(c.w * c.n_q * c.d, 1),
               k = random_values(c.n_kv * c.S * c.d, 2, c.dtype);
    const WindowResult one = window_moments(*make_cpu_backend(1), DType::F32, c, q, k);
    for (const int threads : {2, 3, 5}) {
        const WindowResult more = window_moments(*make_cpu_backend(threads), DType::F32, c, q, k);
        EXPECT_EQ(more.mean, one.mean);
        EXPECT_EQ(more.variance, one.variance);
        EXPECT_EQ(more.sums, one.sums);
    }
}

class ColumnScores : public OnEachBackend {
protected:
    std::vector<float> scores(const std::vector<float>& mean, const std::vector<float>& variance,
                              std::int64_t n_q, ColumnScore score, float gamma, int pool) {
        const Shape shape{n_q, std::int64_t(mean.size()) / n_q};
        const Tensor m = upload(dev(), mean, shape), v = upload(dev(), variance, shape);
        const Tensor out = dev().tensor(DType::F32, shape);
        dev().column_scores(stream, m, v, score, gamma, pool, out);
        return download<float>(dev(), out);
    }
};
CAKE_ON_EACH_BACKEND(ColumnScores);

TEST_P(ColumnScores, CombineMeanAndVariance) {
    const std::vector<float> mean{0.5f, 0.25f}, variance{0.125f, 2.0f};
    using testing::ElementsAre;
    EXPECT_THAT(scores(mean, variance, 1, ColumnScore::Mean, 200, 1), ElementsAre(0.5f, 0.25f));
    EXPECT_THAT(scores(mean, variance, 1, ColumnScore::Variance, 200, 1),
                ElementsAre(0.125f, 2.0f));
    EXPECT_THAT(scores(mean, variance, 1, ColumnScore::MeanPlusVariance, 200, 1),
                ElementsAre(25.5f, 400.25f));
    EXPECT_THAT(scores(mean, variance, 1, ColumnScore::Product, 200, 1),
                ElementsAre(0.0625f, 0.5f));
}

TEST_P(ColumnScores, PoolWithZerosOutsideCounted) {
    const std::vector<float> zeros(6, 0.0f);
    EXPECT_THAT(scores({5, 0, 0, 0, 0, 10}, zeros, 1, ColumnScore::Mean, 0, 5),
                testing::ElementsAre(1.0f, 1.0f, 1.0f, 2.0f, 2.0f, 2.0f));
    // Rows are apart, and may be shorter than the pool.
    EXPECT_THAT(scores({5, 10, 15, 20}, {0, 0, 0, 0}, 2, ColumnScore::Mean, 0, 5),
                testing::ElementsAre(3.0f, 3.0f, 7.0f, 7.0f));
    EXPECT_THAT(scores({5}, {0}, 1, ColumnScore::Mean, 0, 5), testing::ElementsAre(1.0f));
    EXPECT_THAT(scores({}, {}, 2, ColumnScore::Mean, 0, 5), testing::IsEmpty());
}

TEST_P(ColumnScores, TieWhereOneSinkOutweighsItsNeighbours) {
    // Positions 0, 1 and 2 all see the sink; what tells them apart is below rounding.
    const auto got = scores({0.9f, 1e-9f, 2e-9f, 3e-9f, 4e-9f, 5e-9f}, {0.01f, 0, 0, 0, 0, 0}, 1,
                            ColumnScore::MeanPlusVariance, 200, 5);
    EXPECT_EQ(got[0], got[1]);
    EXPECT_EQ(got[1], got[2]);
    EXPECT_GT(got[2], got[3]);
}

TEST_P(ColumnScores, AndGroupMeansGiveTheIndicator) {
    for (const std::int64_t n : {1, 2, 3, 4, 5, 63, 64, 65, 700}) {
        const std::int64_t n_q = 6, n_kv = 2;
        reference::Moments m;
        std::vector<float> mean, variance;
        for (float x : random_values(n_q * n, 1))
            mean.push_back(std::abs(x));
        for (float x : random_values(n_q * n, 2))
            variance.push_back(x * x / 100);
        for (std::int64_t h = 0; h < n_q; ++h) {
            m.mean.emplace_back(mean.begin() + h * n, mean.begin() + (h + 1) * n);
            m.variance.emplace_back(variance.begin() + h * n, variance.begin() + (h + 1) * n);
        }
        const auto pooled = scores(mean, variance, n_q, ColumnScore::MeanPlusVariance, 200, 5);
        const Tensor by_head = upload(dev(), pooled, {n_q, n}),
                     out = dev().tensor(DType::F32, {n_kv, n});
        dev().group_mean(stream, by_head, 3, out);
        EXPECT_THAT(
            download<float>(dev(), out),
            NearTo(flat(reference::indicator(m, 200, 5, std::size_t(n_kv))), {.rel = 1e-6}));
    }
}

class GroupMean : public OnEachBackend {};
CAKE_ON_EACH_BACKEND(GroupMean);

TEST_P(GroupMean, DividesByWhatItIsTold) {
    // A rank that holds one of a group's three heads contributes a third of its score.
    const Tensor x = upload(dev(), std::vector<float>{3, 6, 9, 12}, {2, 2}),
                 out = dev().tensor(DType::F32, {1, 2});
    dev().group_mean(stream, x, 3, out);
    EXPECT_THAT(download<float>(dev(), out), testing::ElementsAre(4.0f, 6.0f));
    const Tensor apart = dev().tensor(DType::F32, {2, 2});
    dev().group_mean(stream, x, 3, apart);
    EXPECT_THAT(download<float>(dev(), apart), testing::ElementsAre(1.0f, 2.0f, 3.0f, 4.0f));
}

}  // namespace
}  // namespace cake
