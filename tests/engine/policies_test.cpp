// The policies that cake is compared with, end to end on a tiny model, at several numbers of ranks.
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

constexpr int S = 300, C = 64, w = 16, L = 5;

Policy row(const std::string& name) {
    PolicyConfig c;
    c.name = name;
    c.cache_size = C;
    if (name != "streaming")
        c.window = w;
    return make_policy(c, {});
}

RunOutcome run(const Policy& policy, int ranks, int new_tokens = 12, int prompt = S) {
    const Golden golden("tiny-llama");
    RunSettings s;
    s.model = golden.model_path();
    s.policies = {policy};
    s.prompt = golden.prompt("p300");
    s.prompt.resize(std::size_t(prompt));
    s.new_tokens = new_tokens;
    const RunOutcome out = run_model(ranks, s)[0];
    EXPECT_LE(out.pages_peak, out.pages_planned);
    EXPECT_EQ(out.pages_left, 0);
    return out;
}

class Policies : public testing::TestWithParam<int> {};  // ranks

TEST_P(Policies, StreamingKeepsSinksAndASlidingWindow) {
    const RunOutcome out = run(row("streaming"), GetParam());
    auto expected = [](int newest) {
        std::vector<std::int32_t> p{0, 1, 2, 3};
        for (int i = newest - (C - 4) + 1; i <= newest; ++i)
            p.push_back(i);
        return p;
    };
    for (const auto& layer : out.prefill)
        for (const auto& head : layer)
            EXPECT_EQ(head, expected(S - 1));
    for (const auto& layer : out.final)
        for (const auto& head : layer)
            EXPECT_EQ(head, expected(S + 12 - 2));
}

TEST_P(Policies, StreamingBeginsToEvictAboveTheCacheSizeAndWorksWithoutSinks) {
    for (int sinks : {0, 4})
        for (int prompt : {1, 3, C - 1, C, C + 1}) {
            PolicyConfig c;
            c.name = "streaming";
            c.cache_size = C;
            c.sinks = sinks;
            const RunOutcome out = run(make_policy(c, {}), GetParam(), 4, prompt);
            SCOPED_TRACE(std::to_string(prompt) + " tokens, " + std::to_string(sinks) + " sinks");
            EXPECT_EQ(out.evicted, prompt > C);
            const int newest = prompt + 4 - 2, held = std::min(C, newest + 1);
            for (const auto& layer : out.final)
                for (const auto& head : layer) {
                    ASSERT_EQ(int(head.size()), held);
                    EXPECT_EQ(head.back(), newest);
                    EXPECT_EQ(head[0], sinks > 0 ? 0 : newest + 1 - held);
                }
        }
}

// What snapkv's paper says, in double precision from the captured queries and keys.
TEST_P(Policies, SnapkvKeepsTheBestPooledMeansOfEachHead) {
    const RunOutcome out = run(row("snapkv"), GetParam());
    const Capture capture = Golden("tiny-llama").capture("p300_prefill.safetensors");
    const auto q = capture.f32("q_window"), k = capture.f32("k");  // [L, H, w, d], [L, G, S, d]
    const int H = 8, G = 4, d = 16;
    for (int l = 0; l < L; ++l)
        for (int g = 0; g < G; ++g) {
            std::vector<double> score(std::size_t(S - w), 0.0);
            for (int h = g * H / G; h < (g + 1) * H / G; ++h) {
                std::vector<double> mean(std::size_t(S - w), 0.0);
                for (int i = 0; i < w; ++i) {
                    std::vector<double> a(std::size_t(S - w + i + 1));
                    for (std::size_t n = 0; n < a.size(); ++n) {
                        double dot = 0;
                        for (int e = 0; e < d; ++e)
                            dot += double(q[std::size_t(((l * H + h) * w + i) * d + e)]) *
                                   double(k[(std::size_t(l * G + g) * S + n) * d + std::size_t(e)]);
                        a[n] = std::exp(dot / std::sqrt(double(d)));
                    }
                    const double sum = std::accumulate(a.begin(), a.end(), 0.0);
                    for (int n = 0; n < S - w; ++n)
                        mean[std::size_t(n)] += a[std::size_t(n)] / sum / w;
                }
                for (int n = 0; n < S - w; ++n)
                    for (int j = std::max(0, n - 2); j <= std::min(S - w - 1, n + 2); ++j)
                        score[std::size_t(n)] += mean[std::size_t(j)] / 5;
            }
            std::vector<std::int32_t> best(score.size());
            std::iota(best.begin(), best.end(), 0);
            std::stable_sort(best.begin(), best.end(), [&](auto x, auto y) {
                return score[std::size_t(x)] > score[std::size_t(y)];
            });
            best.resize(C - w);
            for (int n = S - w; n < S; ++n)
                best.push_back(n);
            std::sort(best.begin(), best.end());
            EXPECT_EQ(out.prefill[std::size_t(l)][std::size_t(g)], best)
                << "layer " << l << ", head " << g;
        }
    for (const auto& layer : out.final)
        EXPECT_EQ(layer[0].size(), std::size_t(C + 11)) << "the cache grows";
}

TEST_P(Policies, PyramidkvGivesTheFirstLayersMore) {
    const RunOutcome out = run(row("pyramidkv"), GetParam());
    // C - w = 48: from 96 - 2.4 to 2.4, linearly, whole numbers by largest remainder.
    EXPECT_THAT(out.kept, testing::ElementsAre(94 + w, 71 + w, 48 + w, 25 + w, 2 + w));
    EXPECT_EQ(std::accumulate(out.kept.begin(), out.kept.end(), 0), C * L);
}

TEST_P(Policies, AnAblationIsAConfiguration) {
    PolicyConfig c;
    c.name = "snapkv";  // its scores with cake's shares
    c.share = "preference";
    c.cache_size = C;
    c.window = w;
    const RunOutcome out = run(make_policy(c, {}), GetParam());
    PolicyConfig cake;
    cake.cache_size = C;
    cake.window = w;
    EXPECT_EQ(out.kept, run(make_policy(cake, {}), GetParam()).kept);
    c.share = "random";
    c.seed = 3;
    const RunOutcome random = run(make_policy(c, {}), GetParam());
    EXPECT_EQ(std::accumulate(random.kept.begin(), random.kept.end(), 0), C * L);
    EXPECT_NE(random.kept, out.kept);
}

// Any scores can be means over all heads, with any shares: then all KV heads of all ranks hold the same tokens.
TEST_P(Policies, ScoresOverAllHeadsKeepTheSameTokensInEachHead) {
    PolicyConfig c;
    c.cache_size = C;
    c.window = w;
    c.heads = "all";
    for (const std::string share : {"preference", "pyramid", "random"}) {
        c.share = share;
        const RunOutcome out = run(make_policy(c, {}), GetParam());
        EXPECT_EQ(std::accumulate(out.kept.begin(), out.kept.end(), 0), C * L) << share;
        for (const Positions& all : {out.prefill, out.final})
            for (const auto& layer : all)
                for (const auto& head : layer)
                    EXPECT_EQ(head, layer[0]) << share;
    }
    for (const std::string name : {"tova", "h2o"}) {
        c = {};
        c.name = name;
        c.cache_size = C;
        c.share = "pyramid";
        const RunOutcome out = run(make_policy(c, {}), GetParam());
        EXPECT_EQ(std::accumulate(out.kept.begin(), out.kept.end(), 0), C * L) << name;
        EXPECT_GT(out.kept[0], out.kept[4]);
    }
}

// Sums go on while decoding only where something is evicted by them.
TEST_P(Policies, H2oThatDoesNotEvictWhileDecodingKeepsNoRunningSums) {
    PolicyConfig c;
    c.name = "h2o";
    c.cache_size = C;
    const RunOutcome with = run(make_policy(c, {}), GetParam());
    c.decode = "none";
    const RunOutcome without = run(make_policy(c, {}), GetParam());
    EXPECT_EQ(without.prefill, with.prefill);
    for (const auto& layer : without.final)
        for (const auto& head : layer)
            EXPECT_EQ(head.size(), std::size_t(C + 11));
}

INSTANTIATE_TEST_SUITE_P(Ranks, Policies, testing::Values(1, 2, 3, 5, 8));

}  // namespace
}  // namespace cake::test
