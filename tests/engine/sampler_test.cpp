#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

namespace cake {
namespace {

using testing::ElementsAre;
using Logits = std::vector<float>;

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

Logits log_of(const std::vector<double>& p) {
    Logits out;
    for (double x : p)
        out.push_back(float(std::log(x)));
    return out;
}

TokenId once(const Sampling& sampling, const Logits& logits) {
    return Sampler(sampling).sample(logits);
}

// The tokens that 2,000 draws find.
std::set<TokenId> support(Sampling sampling, const Logits& logits) {
    if (sampling.temperature == 0)
        sampling.temperature = 1;
    Sampler sampler(sampling);
    std::set<TokenId> out;
    for (int i = 0; i < 2000; ++i)
        out.insert(sampler.sample(logits));
    return out;
}

// The chi-square statistic of 100,000 draws against `p`; tokens of p = 0 may not come at all.
double chi_square(const Sampling& sampling, const Logits& logits, const std::vector<double>& p) {
    constexpr int n = 100'000;
    Sampler sampler(sampling);
    std::vector<int> count(p.size());
    for (int i = 0; i < n; ++i)
        ++count[std::size_t(sampler.sample(logits))];
    double out = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
        if (p[i] == 0)
            EXPECT_EQ(count[i], 0) << i;
        else
            out += std::pow(count[i] - n * p[i], 2) / (n * p[i]);
    }
    return out;
}

TEST(Sampler, TakesTheBestTokenAndTheLowestOfEqualOnes) {
    EXPECT_EQ(once({}, {1, 3, 2}), 1);
    EXPECT_EQ(once({}, {1, 3, 3, 0}), 1);
    EXPECT_EQ(once({}, {0, 0}), 0);
    EXPECT_EQ(once({}, {-5}), 0);
    EXPECT_EQ(once({.top_p = 0.1, .top_k = 2, .min_p = 0.9}, {1, 3, 2}), 1);
}

TEST(Sampler, TopKKeepsTheBestKAndTheLowerOfEqualOnes) {
    EXPECT_THAT(support({.top_k = 2}, {1, 2, 0, 2.5}), ElementsAre(1, 3));
    EXPECT_THAT(support({.top_k = 3}, {1, 2, 1, 1, 2}), ElementsAre(0, 1, 4));
    EXPECT_THAT(support({.top_k = 1}, {0, 0, 0}), ElementsAre(0));
    EXPECT_THAT(support({.top_k = 9}, {0, 0, 0}), ElementsAre(0, 1, 2));
    EXPECT_THAT(support({.top_k = 0}, {0, 0, 0}), ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesIt) {
    const Logits logits = log_of({0.1, 0.5, 0.15, 0.25});
    EXPECT_THAT(support({.top_p = 1e-6}, logits), ElementsAre(1));
    EXPECT_THAT(support({.top_p = 0.49}, logits), ElementsAre(1));
    EXPECT_THAT(support({.top_p = 0.51}, logits), ElementsAre(1, 3));
    EXPECT_THAT(support({.top_p = 0.76}, logits), ElementsAre(1, 2, 3));
    EXPECT_THAT(support({.top_p = 0.91}, logits), ElementsAre(0, 1, 2, 3));
    // Of equal ones the lower: 0.25 each, and sums that are exact.
    EXPECT_THAT(support({.top_p = 0.5}, {0, 0, 0, 0}), ElementsAre(0, 1));
}

TEST(Sampler, TopPSortsNoMoreThanItNeedsAndFindsTheSameSet) {
    // Parts of 64, 512 and 4,096 tokens are sorted one after the other. Ten good tokens, then 990 equal ones.
    Logits logits(1000, 0);
    std::fill(logits.end() - 10, logits.end(), 1.f);
    const double e = std::exp(1.0), sum = 990 + 10 * e;
    for (int n : {5, 10, 64, 65, 300, 576, 577}) {  // the set's size
        const double reached = n <= 10 ? n * e : n - 10 + 10 * e;
        Sampler sampler({.temperature = 1, .top_p = (reached - 0.5) / sum});
        std::set<TokenId> found;
        for (int i = 0; i < 1500; ++i)
            found.insert(sampler.sample(logits));
        for (TokenId id : found)
            EXPECT_TRUE(n <= 10 ? id >= 990 && id < 990 + n : id >= 990 || id < n - 10)
                << n << " " << id;
        EXPECT_GT(found.size(), 0.8 * n) << n;
    }
}

TEST(Sampler, MinPKeepsTokensNotMuchLessLikelyThanTheLikeliest) {
    const Logits logits = log_of({0.1, 0.5, 0.15, 0.25});
    EXPECT_THAT(support({.min_p = 0.19}, logits), ElementsAre(0, 1, 2, 3));
    EXPECT_THAT(support({.min_p = 0.21}, logits), ElementsAre(1, 2, 3));
    EXPECT_THAT(support({.min_p = 0.49}, logits), ElementsAre(1, 3));
    EXPECT_THAT(support({.min_p = 0.51}, logits), ElementsAre(1));
    EXPECT_THAT(support({.min_p = 1}, {1, 1, 0}), ElementsAre(0, 1));
}

TEST(Sampler, TemperatureComesBeforeTheFilters) {
    // At temperature 2 the probabilities 0.64, 0.16, 0.16, 0.04 become 4/9, 2/9, 2/9, 1/9.
    const Logits logits = log_of({0.64, 0.16, 0.16, 0.04});
    EXPECT_THAT(support({.temperature = 1, .top_p = 0.6}, logits), ElementsAre(0));
    EXPECT_THAT(support({.temperature = 2, .top_p = 0.6}, logits), ElementsAre(0, 1));
    EXPECT_THAT(support({.temperature = 1, .min_p = 0.3}, logits), ElementsAre(0));
    EXPECT_THAT(support({.temperature = 2, .min_p = 0.3}, logits), ElementsAre(0, 1, 2));
}

TEST(Sampler, TopPCountsWhatTopKLeft) {
    // Of 0.4, 0.3, 0.2, 0.1 the best two are 0.57 and 0.43 of their sum.
    const Logits logits = log_of({0.4, 0.3, 0.2, 0.1});
    EXPECT_THAT(support({.top_p = 0.5}, logits), ElementsAre(0, 1));
    EXPECT_THAT(support({.top_p = 0.5, .top_k = 2}, logits), ElementsAre(0));
}

TEST(Sampler, PenaltyDividesLogitsAboveZeroAndMultipliesThoseBelow) {
    Sampler sampler({.repetition_penalty = 2});
    sampler.seen(
        std::vector<TokenId>{0, 0, 2, -1, 99});  // once per token; ids of no logit are nothing
    EXPECT_EQ(sampler.sample(Logits{4, 2.5, -1, -1.5}), 1);  // 2, 2.5, -2, -1.5
    EXPECT_EQ(sampler.sample(Logits{4, 3, -1, -1.5}), 0);    // 1 was sampled, so it is seen: 2, 1.5
    EXPECT_EQ(sampler.sample(Logits{-2, -2, -1, -1.5}), 3);  // -4, -4, -2, -1.5
    EXPECT_EQ(sampler.sample(Logits{-2, -2, -1, -1.5}), 2);  // -4, -4, -2, -3
}

TEST(Sampler, PenaltyComesBeforeTheFilters) {
    Sampler sampler({.temperature = 1, .top_k = 1, .repetition_penalty = 2});
    sampler.seen(std::vector<TokenId>{0});
    EXPECT_EQ(sampler.sample(Logits{3, 2, 0}), 1);
}

TEST(Sampler, PenaltyOfOneChangesNothing) {
    Sampler sampler({.repetition_penalty = 1});
    sampler.seen(std::vector<TokenId>{1});
    EXPECT_EQ(sampler.sample(Logits{1, 3, 2}), 1);
}

TEST(Sampler, DrawsAsOftenAsTheProbabilitiesSay) {
    const std::vector<double> p{0.3, 0.05, 0.2, 0.001, 0.249, 0.1, 0.02, 0.08};
    const Logits logits = log_of(p);
    // 24.3: 0.1 % of honest samplers exceed it at 7 degrees of freedom.
    EXPECT_LT(chi_square({.temperature = 1, .seed = 1}, logits, p), 24.3);
    std::vector<double> q;
    double sum = 0;
    for (double x : p) {
        q.push_back(std::pow(x, 1 / 0.7));
        sum += q.back();
    }
    for (double& x : q)
        x /= sum;
    EXPECT_LT(chi_square({.temperature = 0.7, .seed = 2}, logits, q), 24.3);
    EXPECT_GT(chi_square({.temperature = 0.7, .seed = 2}, logits, p), 1000);
}

TEST(Sampler, DrawsAsOftenAsTheProbabilitiesOfWhatTheFiltersLeaveSay) {
    const std::vector<double> p{0.3, 0.05, 0.2, 0.001, 0.249, 0.1, 0.02, 0.08};
    // Top-k leaves 0.3, 0.249, 0.2, 0.1, 0.08; top-p of their sum 0.929 the first four; min-p 0.5 the first three.
    const std::vector<double> q{0.3 / 0.749, 0, 0.2 / 0.749, 0, 0.249 / 0.749, 0, 0, 0};
    const Sampling sampling{.temperature = 1, .top_p = 0.9, .seed = 3, .top_k = 5, .min_p = 0.5};
    EXPECT_LT(chi_square(sampling, log_of(p), q), 13.8);  // 2 degrees of freedom, 0.1 %
}

TEST(Sampler, GivesTheSameTokensForTheSameSeed) {
    const auto tokens = [](std::uint64_t seed) {
        Sampler sampler({.temperature = 1, .top_p = 0.95, .seed = seed, .top_k = 50});
        Logits logits(300);
        for (std::size_t i = 0; i < logits.size(); ++i)
            logits[i] = float(i * 37 % 101) / 20;
        std::vector<TokenId> out;
        for (int i = 0; i < 64; ++i)
            out.push_back(sampler.sample(logits));
        return out;
    };
    EXPECT_EQ(tokens(7), tokens(7));
    EXPECT_NE(tokens(7), tokens(8));
}

TEST(Sampler, UsesRandomBitsThatTheStandardFixes) {
    // Of 2^6 equal tokens the one drawn is the first 6 bits of mt19937_64, whose 10,000th number after seed 5489 the
    // standard names: 9981545732273789042.
    Sampler sampler({.temperature = 1, .seed = 5489});
    const Logits equal(64, 0);
    TokenId last = 0;
    for (int i = 0; i < 10'000; ++i)
        last = sampler.sample(equal);
    EXPECT_EQ(last, TokenId(9981545732273789042u >> 58));
}

TEST(Sampler, NeverDrawsWhatIsNoNumberOrMinusInfinity) {
    EXPECT_EQ(once({}, {nan, -3, nan}), 1);
    EXPECT_EQ(once({}, {-inf, -3, nan}), 1);
    EXPECT_THAT(support({}, {nan, 0, -inf, 0}), ElementsAre(1, 3));
    EXPECT_THAT(support({.top_p = 0.999, .min_p = 0.001}, {nan, 0, -inf, 0}), ElementsAre(1, 3));
    EXPECT_THAT(support({.top_k = 3}, {nan, 0, -inf, 0}), ElementsAre(1, 3));
    EXPECT_THAT(support({}, {0, inf, 1, inf}), ElementsAre(1, 3));
    EXPECT_THAT(support({.temperature = 1e-300}, {3, 4, 5}), ElementsAre(2));
    // Where nothing else is there, any token is as good as another.
    EXPECT_EQ(once({}, {nan, -inf}), 0);
    for (const Sampling& s : {Sampling{.temperature = 1}, Sampling{.temperature = 1, .top_p = 0.5},
                              Sampling{.temperature = 1, .top_k = 1},
                              Sampling{.temperature = 1, .min_p = 1, .repetition_penalty = 2}})
        EXPECT_LT(once(s, {nan, -inf, nan}), 3);
}

TEST(Sampler, GivesLogProbabilitiesOfTheRawLogits) {
    // The penalty decides against token 1, whose log-probability remains the model's.
    Sampler sampler({.repetition_penalty = 100, .logprobs = 3});
    sampler.seen(std::vector<TokenId>{1});
    EXPECT_EQ(sampler.logprobs(), std::nullopt);
    EXPECT_EQ(sampler.sample(log_of({0.1, 0.4, 0.25, 0.25})), 2);
    const TokenLogprobs& got = *sampler.logprobs();
    EXPECT_EQ(got.chosen.token, 2);
    EXPECT_NEAR(got.chosen.logprob, std::log(0.25), 1e-7);
    ASSERT_EQ(got.top.size(), 3u);
    EXPECT_EQ(got.top[0].token, 1);
    EXPECT_NEAR(got.top[0].logprob, std::log(0.4), 1e-7);
    EXPECT_EQ(got.top[1].token, 2);  // of equal ones the lower first
    EXPECT_EQ(got.top[2].token, 3);
    const nlohmann::json json = to_json(got);
    EXPECT_EQ(json["token"], 2);
    EXPECT_EQ(json["top"][0][0], 1);
    EXPECT_EQ(json["top"][1][1], json["logprob"]);
}

TEST(Sampler, LogProbabilitiesAreFiniteForLogitsFarApartAndAddUpToOne) {
    Sampler sampler({.logprobs = 99});
    sampler.sample(Logits{1e30f, 1e30f, -1e30f, 0});
    EXPECT_NEAR(sampler.logprobs()->chosen.logprob, -std::log(2.0), 1e-15);
    ASSERT_EQ(sampler.logprobs()->top.size(), 4u);  // there are no more
    double sum = 0;
    for (const auto& entry : sampler.logprobs()->top)
        sum += std::exp(entry.logprob);
    EXPECT_NEAR(sum, 1, 1e-15);
    EXPECT_EQ(sampler.sample(Logits{nan, inf, 0, inf}), 1);
    EXPECT_NEAR(sampler.logprobs()->chosen.logprob, -std::log(2.0), 1e-15);
}

TEST(Sampler, GivesNoLogProbabilitiesUnasked) {
    Sampler sampler({});
    sampler.sample(Logits{1, 2});
    EXPECT_FALSE(sampler.logprobs());
}

}  // namespace
}  // namespace cake
