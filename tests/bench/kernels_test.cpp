// Kernels by themselves: which, and what they are said to move and compute.
#include "bench/kernels.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "support/golden.h"

namespace cake::test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Not;

// tiny-llama: 8 query and 4 KV heads of 16, d_model 128, MLP 80, 512 tokens.
PlanInput plan_of(const char* policy) {
    RunConfig config;
    config.policy.name = policy;
    config.policy.cache_size = 96;
    config.policy.window = 16;
    PlanInput plan =
        plan_input(config, read_model_config(golden_path("tiny-llama") + "/model"), 1, 300, 4);
    plan.chunk = 100;
    plan.batch = 2;
    return plan;
}

std::vector<KernelTime> timed(const char* policy, const char* kernel = nullptr) {
    const auto dev = make_cpu_backend(1);
    std::vector<KernelTime> out;
    for (const KernelTime& t : time_kernels(*dev, plan_of(policy), 0)) {
        EXPECT_GT(t.seconds, 0) << t.kernel;
        EXPECT_LT(t.seconds, 10) << t.kernel;
        if (!kernel || t.kernel == kernel)
            out.push_back(t);
    }
    return out;
}

std::vector<std::string> names(const std::vector<KernelTime>& times) {
    std::vector<std::string> out;
    for (const KernelTime& t : times)
        out.push_back(t.part + " " + t.kernel);
    return out;
}

TEST(Kernels, AreThoseThatAPolicyRuns) {
    const auto cake = names(timed("cake")), full = names(timed("full")), h2o = names(timed("h2o"));
    EXPECT_THAT(cake, Contains("prefill window_moments"));
    EXPECT_THAT(cake, Contains("decode begin_step and decode_evict"));
    EXPECT_THAT(cake, Contains("decode decode_attention").Times(2)) << "of the prompt, and of C";
    EXPECT_THAT(cake, Not(Contains("prefill column_sums")));
    EXPECT_THAT(full, Contains("decode decode_attention").Times(1));
    EXPECT_THAT(full, Not(Contains("prefill top_k")));
    EXPECT_THAT(h2o, Contains("prefill column_sums"));
    EXPECT_THAT(h2o, Not(Contains("prefill window_moments")));
}

TEST(Kernels, MoveAndComputeAsCountedByHand) {
    const auto norm = timed("cake", "rms_norm");
    ASSERT_EQ(norm.size(), 2u);
    EXPECT_EQ(norm[0].bytes, 100 * 128 * (4 + 4)) << "a chunk, read and written";
    EXPECT_EQ(norm[1].bytes, 2 * 128 * (4 + 4)) << "a step";
    const auto attention = timed("cake", "attention");
    ASSERT_EQ(attention.size(), 1u);
    EXPECT_EQ(attention[0].flops, 4.0 * 16 * 8 * 100 * (200 + 50.5)) << "the last chunk";
    const auto linear = timed("cake", "linear");
    ASSERT_EQ(linear.size(), 9u);
    EXPECT_EQ(linear[0].flops, 2.0 * 100 * 128 * 256);
    EXPECT_EQ(linear[8].bytes, 4 * (2 * 128 + 512 * 128 + 2 * 512)) << "the head";
    const auto steps = timed("cake", "decode_attention");
    ASSERT_EQ(steps.size(), 2u);
    EXPECT_EQ(steps[0].bytes, 2 * 2 * 4 * 300 * 16 * 4);
    EXPECT_EQ(steps[1].bytes, 2 * 2 * 4 * 96 * 16 * 4);
    EXPECT_EQ(timed("cake", "store_tokens")[0].bytes, 4 * 4 * 96 * 16 * 4);
}

TEST(Kernels, AreATableWithPercentsOfTheCeilings) {
    const std::vector<KernelTime> times{{"prefill", "linear", "a", 0.5, 1e9, 4e12},
                                        {"decode", "add", "b", 2e-6, 2000, 0}};
    const std::string table = kernel_table(times, {.read_gb_s = 8, .gemm_tflop_s = 10});
    EXPECT_THAT(table, HasSubstr("linear"));
    EXPECT_THAT(table, testing::ContainsRegex("500000.00 +2 +25.0 +8 +80.0"));
    EXPECT_THAT(table, testing::ContainsRegex("2.00 +1 +12.5 +- +-"));
}

}  // namespace
}  // namespace cake::test
