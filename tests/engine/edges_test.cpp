// Where eviction begins and ends: short prompts, budgets of everything and of nothing, chunks of any size.
#include <numeric>

#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

const Golden& golden() {
    static const Golden g("tiny-llama");
    return g;
}

Policy cake_policy(int cache_size, Rounding rounding = Rounding::Exact,
                   DecodeEvict decode = DecodeEvict::Position) {
    PolicyConfig c;
    c.cache_size = cache_size;
    c.window = 16;
    c.tau1 = 1.6;
    c.tau2 = 0.6;
    Policy p = make_policy(c, {});
    p.rounding = rounding;
    p.decode = decode;
    return p;
}

RunSettings settings(int prompt_tokens, std::vector<Policy> policies) {
    RunSettings s;
    s.model = golden().model_path();
    s.prompt = golden().prompt("p300");
    s.prompt.resize(std::size_t(prompt_tokens));
    s.policies = std::move(policies);
    s.new_tokens = 8;
    s.page_tokens = 16;
    return s;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        most = std::max(most, std::abs(double(a[i]) - double(b[i])));
    return most;
}

// Every position from 0 to S - 1, in every layer and head.
void expect_whole(const Positions& kept, int S) {
    std::vector<std::int32_t> all(std::size_t(S), 0);
    std::iota(all.begin(), all.end(), 0);
    for (const auto& layer : kept)
        for (const auto& head : layer)
            EXPECT_EQ(head, all);
}

TEST(Prefill, LeavesAPromptWholeUpToCachePlusWindow) {
    constexpr int C = 48, w = 16;
    for (int S : {1, 2, w - 1, w, w + 1, C, C + w}) {
        SCOPED_TRACE(S);
        const auto out = run_model(1, settings(S, {cake_policy(C), full_policy()}));
        EXPECT_FALSE(out[0].evicted);
        expect_whole(out[0].prefill, S);
        EXPECT_EQ(out[0].logits[0], out[1].logits[0]);
        EXPECT_EQ(out[0].seen[0].has_value(), S > w) << "nothing to observe before the window";
    }
    const auto out = run_model(1, settings(C + w + 1, {cake_policy(C)}));
    EXPECT_TRUE(out[0].evicted);
    EXPECT_EQ(std::accumulate(out[0].kept.begin(), out[0].kept.end(), 0), C * 5);
}

TEST(Decoding, BringsAWholePromptDownToTheCacheSizeAtItsFirstStep) {
    constexpr int C = 48;
    for (const DecodeEvict decode : {DecodeEvict::Position, DecodeEvict::Official}) {
        const auto out = run_model(1, settings(60, {cake_policy(C, Rounding::Exact, decode)}));
        EXPECT_FALSE(out[0].evicted);
        for (const auto& layer : out[0].final)
            for (const auto& head : layer) {
                EXPECT_EQ(head.size(), std::size_t(C));
                EXPECT_EQ(head.back(), 60 + 8 - 2) << "the newest token";
            }
        EXPECT_LE(out[0].pages_peak, out[0].pages_planned);
    }
}

TEST(Decoding, WithoutEvictionGrowsByTheNewTokens) {
    const auto out =
        run_model(2, settings(200, {cake_policy(48, Rounding::Exact, DecodeEvict::None)}));
    for (std::size_t l = 0; l < out[0].final.size(); ++l)
        EXPECT_EQ(int(out[0].final[l][0].size()), out[0].kept[l] + 7);
    EXPECT_LE(out[0].pages_peak, out[0].pages_planned);
}

TEST(Prefill, ABudgetOfEverythingGivesFullAttention) {
    const auto out = run_model(
        1, settings(200, {cake_policy(208), full_policy()}));  // 208: with the new tokens too
    EXPECT_EQ(out[0].tokens, out[1].tokens);
    EXPECT_EQ(out[0].final, out[1].final);
    for (std::size_t t = 0; t < out[0].logits.size(); ++t)
        EXPECT_LT(largest_difference(out[0].logits[t], out[1].logits[t]), 1e-5);
}

TEST(Prefill, TheLargestCacheThatEvictsChangesTheLogitsLittle) {
    // The largest cache that evicts, S = C + w + 1: every layer goes through selection and pages, and loses w + 1 tokens
    // on average, those that nobody looks at.
    const auto out = run_model(
        1, settings(200, {cake_policy(183, Rounding::Exact, DecodeEvict::None), full_policy()}));
    EXPECT_TRUE(out[0].evicted);
    EXPECT_EQ(std::accumulate(out[0].kept.begin(), out[0].kept.end(), 0), 183 * 5);
    EXPECT_EQ(out[0].logits[0], out[1].logits[0]) << "prefill attends to the uncut layers";
    EXPECT_LT(largest_difference(out[0].logits[1], out[1].logits[1]), 1);
}

TEST(Prefill, HandlesBudgetsOfNothing) {
    // One token more than the window on average: most layers' shares round to 0, 1 or 2.
    for (const Rounding rounding : {Rounding::Exact, Rounding::Official})
        for (const DecodeEvict decode :
             {DecodeEvict::Position, DecodeEvict::Official, DecodeEvict::None}) {
            const auto out = run_model(2, settings(300, {cake_policy(17, rounding, decode)}));
            EXPECT_TRUE(out[0].evicted);
            int none = 0;
            for (int b : out[0].budgets)
                none += b == 0;
            EXPECT_GT(none, 0);
            for (const auto& layer : out[0].prefill)
                for (const auto& head : layer)
                    EXPECT_EQ(head[head.size() - 16], 284) << "the window is never evicted";
            EXPECT_EQ(out[0].pages_left, 0);
        }
}

TEST(Prefill, DoesNotDependOnTheChunk) {
    constexpr int S = 300;
    auto run = [](int chunk, int ranks) {
        RunSettings s =
            settings(S, {cake_policy(48), cake_policy(96, Rounding::Official), full_policy()});
        s.chunk = chunk;
        return run_model(ranks, s);
    };
    for (int ranks : {1, 2}) {
        const auto whole = run(S, ranks);
        for (int chunk : {1, 7, 64, S - 1}) {
            const auto out = run(chunk, ranks);
            for (std::size_t i = 0; i < out.size(); ++i) {
                SCOPED_TRACE(chunk);
                EXPECT_EQ(out[i].tokens, whole[i].tokens);
                EXPECT_EQ(out[i].budgets, whole[i].budgets);
                EXPECT_EQ(difference(out[i].prefill, whole[i].prefill).different, 0);
                EXPECT_EQ(difference(out[i].final, whole[i].final).different, 0);
                EXPECT_LT(largest_difference(out[i].logits[0], whole[i].logits[0]), 1e-5);
            }
        }
    }
}

TEST(Prefill, PassesLongChunksThroughTheMlpInParts) {
    constexpr int S = mlp_rows + 500;
    RunSettings s = settings(S, {cake_policy(48)});
    for (int i = 0; i < S; ++i)
        s.prompt[std::size_t(i)] = TokenId((i * 7919LL + i / 31) % 512);
    s.chunk = S;
    const auto whole = run_model(1, s);
    s.chunk = 700;
    const auto out = run_model(1, s);
    EXPECT_EQ(out[0].tokens, whole[0].tokens);
    EXPECT_EQ(out[0].prefill, whole[0].prefill);
    EXPECT_LT(largest_difference(out[0].logits[0], whole[0].logits[0]), 1e-5);
}

TEST(Prefill, ServesSeveralPoliciesAsItServesEachAlone) {
    Policy other_window = cake_policy(64);
    other_window.window = 24;
    Policy uniform = cake_policy(48);
    uniform.share = Share::Uniform;
    uniform.score = ColumnScore::Mean;
    const std::vector<Policy> policies{cake_policy(48), full_policy(), other_window, uniform};
    const auto together = run_model(1, settings(300, policies));
    for (std::size_t i = 0; i < policies.size(); ++i) {
        const auto alone = run_model(1, settings(300, {policies[i]}));
        EXPECT_EQ(together[i].tokens, alone[0].tokens);
        EXPECT_EQ(together[i].kept, alone[0].kept);
        EXPECT_EQ(together[i].prefill, alone[0].prefill);
    }
    for (int kept : together[3].kept)
        EXPECT_EQ(kept, 48) << "uniform shares";
}

TEST(Engine, SameRunSameBytes) {
    const auto a = run_model(2, settings(300, {cake_policy(48)})),
               b = run_model(2, settings(300, {cake_policy(48)}));
    EXPECT_EQ(a[0].logits, b[0].logits);
    EXPECT_EQ(a[0].final, b[0].final);
}

TEST(Engine, Bf16WeightsAndCacheStayCloseToF32) {
    RunSettings s = settings(300, {cake_policy(96)});
    const auto f32 = run_model(1, s);
    s.weights = s.cache = DType::BF16;
    const auto bf16 = run_model(1, s);
    EXPECT_LT(largest_difference(f32[0].logits[0], bf16[0].logits[0]), 0.1);
    EXPECT_LT(difference(f32[0].prefill, bf16[0].prefill).fraction(), 0.05);
}

}  // namespace
}  // namespace cake::test
