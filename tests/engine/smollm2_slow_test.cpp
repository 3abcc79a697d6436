// A real model against captures of the official code: SmolLM2-135M-Instruct, a chat prompt of 2,000 tokens.
#include <cstdlib>
#include <filesystem>
#include <map>

#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/run_model.h"

namespace cake::test {
namespace {

// Where launch/get_model.sh puts it, or CAKE_TEST_MODEL.
std::string model_path() {
    if (const char* path = std::getenv("CAKE_TEST_MODEL"))
        return path;
    const char* models = std::getenv("CAKE_MODELS");
    const char* home = std::getenv("HOME");
    const std::string folder =
        models ? models : std::string(home ? home : "") + "/.cache/cake/models";
    return folder + "/SmolLM2-135M-Instruct.Q4_1.gguf";
}

class SmolLm2 : public testing::Test {
protected:
    void SetUp() override {
        if (!std::filesystem::exists(model_path()))
            GTEST_SKIP() << model_path() << " is not there: launch/get_model.sh fetches it";
    }
    Golden golden{"smollm2"};

    // Official rounding at both cache sizes, exact rounding, and the full cache: one prefill for all.
    RunSettings settings(int threads) {
        RunSettings s;
        s.model = model_path();
        s.prompt = golden.prompt("p2000");
        for (const auto& run : golden.runs())
            s.policies.push_back(golden_policy(golden.index(), run));
        s.policies.push_back(s.policies[0]);
        s.policies.back().rounding = Rounding::Exact;
        s.policies.push_back(full_policy());
        s.new_tokens = 64;
        s.chunk = 512;
        s.threads = threads;
        return s;
    }
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double most = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
        most = std::max(most, std::abs(double(a[i]) - double(b[i])));
    return most;
}

TEST_F(SmolLm2, AgreesWithTheOfficialCodeAtEveryNumberOfRanks) {
    const Capture before = golden.capture("p2000_prefill.safetensors");
    std::vector<RunOutcome> alone;
    for (int ranks : {1, 2, 3, 4, 6, 9}) {  // 3 KV heads: from 4 on ranks share them
        SCOPED_TRACE(std::to_string(ranks) + " ranks");
        const auto out = run_model(ranks, settings(ranks == 1 ? 2 : 1));
        EXPECT_LT(largest_difference(out[0].logits[0], before.f32("logits")), 5e-3);
        EXPECT_EQ(out.back().tokens, golden.capture("p2000_full.safetensors").i32("tokens"));
        for (std::size_t i = 0; i < golden.runs().size(); ++i) {
            const auto& run = golden.runs()[i];
            SCOPED_TRACE(run["tag"].get<std::string>());
            const Capture capture = golden.capture(run["file"]);
            for (std::size_t l = 0; l < 30; ++l)
                EXPECT_NEAR(out[i].seen[l]->preference / before.f32("pref")[l], 1, 1e-3)
                    << "layer " << l;
            EXPECT_EQ(out[i].budgets, capture.i32("layer_budget"));
            const auto kept =
                split_positions(capture.i32("prefill_positions"), capture.i32("prefill_len"), 3);
            EXPECT_LE(difference(kept, out[i].prefill).fraction(), 0.0005);
            EXPECT_EQ(out[i].tokens, capture.i32("tokens"));
        }
        if (ranks == 1)
            alone = out;
        for (std::size_t i = 0; i < out.size();
             ++i) {  // exact rounding and the full cache included
            EXPECT_EQ(out[i].tokens, alone[i].tokens);
            EXPECT_EQ(out[i].budgets, alone[i].budgets);
            EXPECT_LE(difference(out[i].prefill, alone[i].prefill).fraction(), 0.0005);
        }
    }
}

// The same numbers in another order of sums: what holds of widened weights holds of those that stay as the file has them.
TEST_F(SmolLm2, WeightsAsStoredAgreeWithTheOfficialCode) {
    const Capture before = golden.capture("p2000_prefill.safetensors");
    for (int ranks : {1, 2, 3}) {
        SCOPED_TRACE(std::to_string(ranks) + " ranks");
        RunSettings s = settings(ranks == 1 ? 2 : 1);
        s.weights = requested_types(read_model_config(s.model), "auto", s.model);
        EXPECT_TRUE(is_quantized(s.weights.main()));
        const auto out = run_model(ranks, s);
        EXPECT_LT(largest_difference(out[0].logits[0], before.f32("logits")), 5e-3);
        EXPECT_EQ(out.back().tokens, golden.capture("p2000_full.safetensors").i32("tokens"));
        for (std::size_t i = 0; i < golden.runs().size(); ++i) {
            const auto& run = golden.runs()[i];
            SCOPED_TRACE(run["tag"].get<std::string>());
            const Capture capture = golden.capture(run["file"]);
            EXPECT_EQ(out[i].budgets, capture.i32("layer_budget"));
            const auto kept =
                split_positions(capture.i32("prefill_positions"), capture.i32("prefill_len"), 3);
            EXPECT_LE(difference(kept, out[i].prefill).fraction(), 0.0005);
            EXPECT_EQ(out[i].tokens, capture.i32("tokens"));
        }
    }
}

// Measured on this capture: logits within 0.13, 0.46 % of kept entries differ. bf16 rounds each weight to 8 bits.
TEST_F(SmolLm2, Bf16WeightsStayWithinTheirStatedTolerance) {
    RunSettings s = settings(2);
    s.new_tokens = 1;
    const auto f32 = run_model(1, s);
    s.weights = DType::BF16;
    s.cache = DType::BF16;
    const auto bf16 = run_model(1, s);
    const double logits = largest_difference(f32[0].logits[0], bf16[0].logits[0]);
    RecordProperty("logits", std::to_string(logits));
    EXPECT_LT(logits, 0.3);
    for (std::size_t i = 0; i + 1 < f32.size(); ++i) {
        const double fraction = difference(f32[i].prefill, bf16[i].prefill).fraction();
        RecordProperty("kept" + std::to_string(i), std::to_string(fraction));
        EXPECT_LT(fraction, 0.01);
    }
    EXPECT_EQ(f32.back().tokens[0], bf16.back().tokens[0]);
}

}  // namespace
}  // namespace cake::test
