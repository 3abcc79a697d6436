// Numbers of `cake eval fidelity`, against values by hand.
#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "eval/fidelity_files.h"
#include "support/expect_error.h"

namespace cake::test {
namespace {

using testing::HasSubstr;

TEST(Softmax, IsThatOfLogitsByHandHoweverLarge) {
    for (const float shift : {0.f, 4096.f, -4096.f}) {
        const Distribution d = softmax(std::vector<float>{shift, shift + 1, shift + 2, -INFINITY});
        const double sum = 1 + std::exp(1) + std::exp(2);
        EXPECT_NEAR(d.p[0], 1 / sum, 1e-15);
        EXPECT_NEAR(d.p[2], std::exp(2) / sum, 1e-15);
        EXPECT_NEAR(d.log_p[1], 1 - std::log(sum), 1e-15);
        EXPECT_EQ(d.p[3], 0);
        EXPECT_EQ(d.best(), 2u);
    }
    EXPECT_EQ(softmax(std::vector<float>{1, 3, 3}).best(), 1u);  // the first of equals
}

TEST(Softmax, RefusesWhatIsNoNumber) {
    EXPECT_THROW(softmax(std::vector<float>{0, NAN}), Error);
    EXPECT_THROW(softmax(std::vector<float>{-INFINITY, -INFINITY}), Error);
    EXPECT_THROW(softmax(std::vector<float>{0, INFINITY}), Error);
}

TEST(KlDivergence, IsThatOfTwoCoinsByHand) {
    const auto coin = [](double heads) {
        return Distribution{{heads, 1 - heads}, {std::log(heads), std::log(1 - heads)}};
    };
    // 1/2 ln(2) + 1/2 ln(2/3), and 1/4 ln(1/2) + 3/4 ln(3/2): nats, and not symmetric.
    EXPECT_NEAR(kl_divergence(coin(0.5), coin(0.25)), 0.14384103622589042, 1e-15);
    EXPECT_NEAR(kl_divergence(coin(0.25), coin(0.5)), 0.13081203594113694, 1e-15);
    EXPECT_EQ(kl_divergence(coin(0.3), coin(0.3)), 0);
    const Distribution sure = softmax(std::vector<float>{0, -INFINITY});  // 0 ln 0 is 0
    EXPECT_NEAR(kl_divergence(sure, coin(0.25)), std::log(4), 1e-15);
    EXPECT_EQ(kl_divergence(coin(0.25), sure), INFINITY);
}

TEST(Fidelity, PerplexityAndErrorsAreThoseByHand) {
    EXPECT_NEAR(perplexity(std::vector{std::log(2), std::log(8)}), 4, 1e-14);
    EXPECT_DOUBLE_EQ(relative_error(0.09, 4), 0.15);
    EXPECT_EQ(relative_error(0, 0), 0);
    PolicyFidelity p{"cake", 64, 50};
    for (int i = 100; i > 0; --i)
        p.kl.push_back(i);
    p.agrees = {1, 0, 1, 1};
    p.layers = {{0, 0, 0.25}, {0, 0, 0.5}};
    EXPECT_EQ(p.kl_p99(), 100);
    EXPECT_EQ(p.top1_agreement(), 0.75);
    EXPECT_EQ(p.attention_error(), 0.375);
}

// Two positions, two layers.
TextFidelity text(const std::string& name, double kl) {
    return {name,
            40,
            {{"full", 0, 100, {0, 0}, {1, 1}, {0.5, 0.25}, {{40, 40, 0}, {40, 40, 0}}},
             {"cake:share=uniform",
              16,
              40,
              {kl, 3 * kl},
              {1, 0},
              {1, 0.5},
              {{8, 12, 0.5}, {12, 20, 0.25}}}}};
}

TEST(FidelityTables, HaveALineForEachTextPolicyPositionAndLayer) {
    const std::vector<TextFidelity> texts{text("a, \"b\".txt", 0.125)};
    EXPECT_EQ(fidelity_csv(texts),
              "text,policy,cache_size,prompt_tokens,positions,kept_percent,kl_mean,kl_p99,"
              "top1_agreement,perplexity,perplexity_full,attention_error\n"
              "\"a, \"\"b\"\".txt\",full,0,40,2,100,0,0,1,1.45499141,1.45499141,0\n"
              "\"a, \"\"b\"\".txt\",cake:share=uniform,16,40,2,40,0.25,0.375,0.5,2.11700002,"
              "1.45499141,0.375\n");
    EXPECT_THAT(positions_csv(texts),
                HasSubstr("\n\"a, \"\"b\"\".txt\",cake:share=uniform,16,40,2,0.375,0,0.5,0.25\n"));
    EXPECT_THAT(layers_csv(texts),
                HasSubstr("\n\"a, \"\"b\"\".txt\",cake:share=uniform,16,40,1,12,20,0.25\n"));
}

TEST(FidelityTables, AreMeansOverTextsOfOneLength) {
    std::vector<TextFidelity> texts{text("a", 0.125), text("b", 0.375), text("c", 9)};
    texts[2].prompt_tokens = 50;
    const auto means = means_over_texts(texts);
    ASSERT_EQ(means.size(), 4u);  // two policies, two lengths
    EXPECT_EQ(means[1].texts, 2);
    EXPECT_DOUBLE_EQ(means[1].kl_mean, 0.5);
    EXPECT_DOUBLE_EQ(means[1].kl_p99, 0.75);
    EXPECT_EQ(means[3].prompt_tokens, 50);
    EXPECT_EQ(means[3].kl_mean, 18);
    EXPECT_THAT(fidelity_table(means),
                HasSubstr("| cake:share=uniform | 16 | 40 | 2 | 40.00 | 0.5000 | 0.750 | 50.0 | "
                          "2.117 | 1.455 | 0.3750 |"));
}

TEST(FidelityRows, AreReadAgainOrRefused) {
    const TextFidelity t = text("a.txt", 0.1);
    const nlohmann::json row = to_json(t);
    EXPECT_EQ(to_json(fidelity_of(row, "x")), row);
    EXPECT_EQ(fidelity_csv(std::vector{fidelity_of(row, "x")}), fidelity_csv(std::vector{t}));
    nlohmann::json bad = row;
    bad["policies"][1]["nll"].erase(1);
    EXPECT_THAT(usage_message([&] { fidelity_of(bad, "f.jsonl"); }), HasSubstr("f.jsonl: "));
    bad = row;
    bad["policies"][0].erase("kl");
    EXPECT_THAT(usage_message([&] { fidelity_of(bad, "f.jsonl"); }), HasSubstr("f.jsonl: "));
    bad = row;
    bad["policies"] = nlohmann::json::array();
    EXPECT_THAT(usage_message([&] { fidelity_of(bad, "f.jsonl"); }), HasSubstr("f.jsonl: "));
}

}  // namespace
}  // namespace cake::test
