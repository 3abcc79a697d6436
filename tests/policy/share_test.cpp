// Real preferences to whole budgets: by hand, by captures of the official code, and by properties on random draws.
#include "policy/share.h"

#include <cmath>
#include <numeric>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/json_file.h"
#include "policy/cascade.h"
#include "support/golden.h"

namespace cake::test {
namespace {

using testing::ElementsAre;

std::int64_t sum(std::span<const int> b) {
    return std::accumulate(b.begin(), b.end(), std::int64_t(0));
}

TEST(WaterFill, SharesByPreference) {
    const double P[] = {1, 2, 1};
    EXPECT_THAT(water_fill(P, {.total = 40, .cap = 100}), ElementsAre(10, 20, 10));
}

TEST(WaterFill, GivesWhatALayerCannotHoldToTheOthers) {
    const double P[] = {1, 8, 1};
    EXPECT_THAT(water_fill(P, {.total = 40, .cap = 20}), ElementsAre(10, 20, 10));
}

TEST(WaterFill, FillsAllLayersWhereThereIsEnough) {
    const double P[] = {0, 8, 1};
    EXPECT_THAT(water_fill(P, {.total = 60, .cap = 20}), ElementsAre(20, 20, 20));
}

TEST(WaterFill, GivesLayersWithoutPreferenceWhatOthersCannotHold) {
    const double P[] = {0, 8, 0, 2};
    EXPECT_THAT(water_fill(P, {.total = 30, .cap = 20}), ElementsAre(0, 20, 0, 10));
    EXPECT_THAT(water_fill(P, {.total = 46, .cap = 20}), ElementsAre(3, 20, 3, 20));
}

TEST(ShareFinal, HandsTheRestOutByLargestRemainder) {
    const double P[] = {1, 1, 1};
    EXPECT_THAT(share_final(P, {.total = 11, .cap = 100}), ElementsAre(4, 4, 3))
        << "ties go to the lower layer";
    const double Q[] = {1.2, 1.5, 1.3};
    EXPECT_THAT(share_final(Q, {.total = 4, .cap = 100}), ElementsAre(1, 2, 1));
}

TEST(ShareStage, RoundsUp) {
    const double P[] = {1, 1, 1};
    EXPECT_THAT(share_stage(P, {.total = 11, .cap = 100}), ElementsAre(4, 4, 4));
}

TEST(OfficialRounding, EqualsEveryCaptureOfAdjustBudgets) {
    const nlohmann::json golden = read_json_file(golden_path("budgets.json"));
    int n = 0;
    for (const auto& c : golden["cases"]) {
        const auto P = c["prefs"].get<std::vector<double>>();
        const std::int64_t C = c["cache_size"], w = c["window"], L = c["num_layers"],
                           S = c["prompt_len"];
        const ShareTotal total{(C - w) * L, int(S - w)};
        const auto real = real_budgets_official(P, total.total);
        const auto raw = c["raw"].get<std::vector<double>>();
        for (std::size_t l = 0; l < raw.size(); ++l)
            EXPECT_DOUBLE_EQ(real[l], raw[l]);
        EXPECT_EQ(adjust_budgets_official(real, total), c["adjusted"].get<std::vector<int>>())
            << "case " << n;
        ++n;
    }
    for (const auto& c : golden["direct"]) {
        const ShareTotal total{c["total"].get<std::int64_t>(), c["cap"].get<int>()};
        EXPECT_EQ(adjust_budgets_official(c["raw"].get<std::vector<double>>(), total),
                  c["adjusted"].get<std::vector<int>>());
        ++n;
    }
    EXPECT_EQ(n, 360);
}

TEST(PyramidShares, FallLinearlyFromTheFirstLayerToTheLast) {
    // C - w = 100: from 200 - 5 to 5.
    EXPECT_THAT(pyramid_shares(3, {.total = 300, .cap = 1000}), ElementsAre(195, 100, 5));
    // The first layer holds 150 at most: from 150 to 50, as the authors' code does it.
    EXPECT_THAT(pyramid_shares(3, {.total = 300, .cap = 150}), ElementsAre(150, 100, 50));
    EXPECT_THAT(pyramid_shares(1, {.total = 100, .cap = 1000}), ElementsAre(100));
}

TEST(KnownShares, AreFinalAtEveryStage) {
    for (const Share share : {Share::Uniform, Share::Pyramid, Share::Random}) {
        Policy p;
        p.share = share;
        p.cache_size = 132;
        p.window = 32;
        p.seed = 5;
        Cascade cascade(p, 8, 500);
        std::vector<int> before;
        for (int m = 0; m < 8; ++m) {
            cascade.add(0);
            const std::vector<int> kept(cascade.kept().begin(), cascade.kept().end());
            EXPECT_TRUE(std::equal(before.begin(), before.end(), kept.begin()));
            before = kept;
        }
        EXPECT_EQ(sum(before), 800);
        if (share == Share::Uniform) {
            EXPECT_THAT(before, testing::Each(100));
        }
        p.seed = 6;
        Cascade other(p, 8, 500);
        for (int m = 0; m < 8; ++m)
            other.add(0);
        EXPECT_EQ(std::equal(before.begin(), before.end(), other.kept().begin()),
                  share != Share::Random);
    }
}

Policy cake_policy(int cache_size, int window, bool cascade, Rounding rounding = Rounding::Exact) {
    Policy p;
    p.name = "cake";
    p.observe = Observe::Window;
    p.share = Share::Preference;
    p.rounding = rounding;
    p.decode = DecodeEvict::Position;
    p.cascade = cascade;
    p.tolerant = true;
    p.cache_size = cache_size;
    p.window = window;
    return p;
}

// 1,000 prompts with preferences spread over up to twelve decades, some 0, some all 0, caps that bite and totals that
// exceed what there is.
TEST(Cascade, EqualsOneShotNeverGrowsAndAddsUpExactly) {
    std::mt19937_64 random(7);
    auto uniform = [&](int low, int high) {
        return std::uniform_int_distribution(low, high)(random);
    };
    int capped = 0, with_zeros = 0;
    for (int draw = 0; draw < 1000; ++draw) {
        const int L = uniform(1, 40), w = uniform(1, 32), C = w + uniform(1, 300);
        const int S = C + w + 1 + uniform(0, draw % 3 == 0 ? 20 : 3000);
        const double spread = uniform(0, 12);
        std::vector<double> P;
        for (int l = 0; l < L; ++l)
            P.push_back(uniform(0, 9) < draw % 4
                            ? 0
                            : std::pow(10, spread * double(uniform(0, 1000)) / 1000));
        if (draw % 97 == 0)
            std::fill(P.begin(), P.end(), 0);
        const std::int64_t T = std::int64_t(C - w) * L;
        const int K = S - w;

        Cascade cascade(cake_policy(C, w, true), L, S), one_shot(cake_policy(C, w, false), L, S);
        std::vector<int> before;
        for (int m = 0; m < L; ++m) {
            cascade.add(P[std::size_t(m)]);
            one_shot.add(P[std::size_t(m)]);
            const std::vector<int> kept(cascade.kept().begin(), cascade.kept().end());
            for (std::size_t l = 0; l < before.size(); ++l)
                ASSERT_LE(kept[l], before[l])
                    << "draw " << draw << ": layer " << l << " grew at stage " << m;
            ASSERT_LE(sum(kept), T + m + 1) << "draw " << draw;
            for (int b : kept)
                ASSERT_TRUE(0 <= b && b <= K);
            before = kept;
        }
        ASSERT_EQ(before, std::vector<int>(one_shot.kept().begin(), one_shot.kept().end()))
            << "draw " << draw;
        ASSERT_EQ(sum(before), std::min(T, std::int64_t(L) * K)) << "draw " << draw;
        capped += std::count(before.begin(), before.end(), K) > 0;
        with_zeros += std::count(P.begin(), P.end(), 0.0) > 0;
    }
    EXPECT_GT(capped, 100);
    EXPECT_GT(with_zeros, 300);
}

TEST(Cascade, EqualsTheStagesOfTheOfficialCodeOnEveryCapturedRun) {
    int stages = 0;
    for (const std::string model : {"tiny-llama", "tiny-mistral", "tiny-qwen2", "smollm2"}) {
        const Golden golden(model);
        for (const auto& run : golden.runs()) {
            SCOPED_TRACE(model + " " + run["tag"].get<std::string>());
            const Capture capture = golden.capture(run["file"]);
            const std::string prompt = run["prompt"];
            const auto P = golden.capture(prompt + "_prefill.safetensors").f32("pref");
            const auto stage_budget = capture.i32("stage_budget"),
                       stage_kept = capture.i32("stage_kept");
            const std::size_t L = P.size();
            Cascade cascade(cake_policy(run["cache_size"], golden.index()["window"],
                                        run["cascading"], Rounding::Official),
                            int(L), run["prompt_len"]);
            for (std::size_t m = 0; m < L; ++m) {
                cascade.add(double(P[m]));
                if (stage_budget[m * L] < 0)
                    continue;  // the official code did nothing at this stage
                for (std::size_t l = 0; l <= m; ++l) {
                    EXPECT_EQ(cascade.budgets()[l], stage_budget[m * L + l])
                        << "stage " << m << ", layer " << l;
                    EXPECT_EQ(cascade.kept()[l], stage_kept[m * L + l])
                        << "stage " << m << ", layer " << l;
                }
                ++stages;
            }
            const auto last = capture.i32("layer_budget");
            EXPECT_EQ(std::vector<int>(cascade.budgets().begin(), cascade.budgets().end()), last);
        }
    }
    EXPECT_GT(stages, 60);
}

TEST(Cascade, LeavesAPromptWholeThatHardlyExceedsTheCache) {
    for (const auto& [S, evicts] :
         {std::pair{1, false}, {16, false}, {48, false}, {64, false}, {65, true}}) {
        Cascade cascade(cake_policy(48, 16, true), 3, S);
        for (int l = 0; l < 3; ++l)
            cascade.add(1);
        EXPECT_EQ(cascade.evicts(), evicts) << S;
        EXPECT_EQ(cascade.window(), evicts ? 16 : S);
        EXPECT_THAT(cascade.budgets(), ElementsAre(32, 32, 32)) << "what decoding keeps to";
        EXPECT_EQ(cascade.kept()[0], evicts ? 32 : 0);
    }
}

TEST(Cascade, RefusesAPreferenceThatIsNoNumber) {
    Cascade cascade(cake_policy(48, 16, true), 3, 100);
    EXPECT_THROW(cascade.add(std::nan("")), Error);
    EXPECT_THROW(Cascade(cake_policy(48, 16, true), 3, 100).add(-1), Error);
}

}  // namespace
}  // namespace cake::test
