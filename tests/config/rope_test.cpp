// Frequencies against those that Hugging Face transformers used for the captures (index.json of
// tiny-llama31, tiny-llama-linear with 4.43.3, of tiny-qwen2-yarn with 4.57.3).
#include <cmath>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "config/model_config.h"
#include "support/expect_error.h"

namespace cake {
namespace {

using nlohmann::json;
using testing::FloatEq;
using testing::Pointwise;

MATCHER(SameFloat, "") { return testing::Matches(FloatEq(std::get<1>(arg)))(std::get<0>(arg)); }

ModelConfig read(double theta, int max_positions, const char* scaling) {
    json config = json::parse(
        R"({"architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 80,
        "num_attention_heads": 4, "num_hidden_layers": 3, "vocab_size": 512})");
    config["rope_theta"] = theta;
    config["max_position_embeddings"] = max_positions;
    config["rope_scaling"] = json::parse(scaling);
    return model_config_from_json(config, "config.json", "m");
}

TEST(Rope, HasTheUsualFrequenciesWithoutScaling) {
    const ModelConfig config = read(10000, 2048, "null");
    const std::vector<float> inv_freq = rope_inv_freq(config.rope, 16);
    ASSERT_EQ(inv_freq.size(), 8u);
    for (int i = 0; i < 8; ++i)
        EXPECT_FLOAT_EQ(inv_freq[std::size_t(i)], float(std::pow(10000.0, -i / 8.0)));
    EXPECT_EQ(config.rope.attention_factor, 1);
}

TEST(Rope, ScalesAsLlama31) {
    const ModelConfig config =
        read(500000, 2048, R"({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 64})");
    const std::vector<float> golden{1.0f,
                                    0.07940301299095154f,
                                    0.004700753837823868f,
                                    0.0009115831344388425f,
                                    0.00017677668074611574f,
                                    3.428102354519069e-05f,
                                    6.647869668086059e-06f,
                                    1.289173155782919e-06f};
    EXPECT_THAT(rope_inv_freq(config.rope, 16), Pointwise(SameFloat(), golden));
    EXPECT_EQ(config.max_positions, 2048);
}

TEST(Rope, ScalesLinearly) {
    const ModelConfig config = read(10000, 2048, R"({"type": "linear", "factor": 4.0})");
    const std::vector<float> golden{0.25f,
                                    0.07905694097280502f,
                                    0.02500000037252903f,
                                    0.007905694656074047f,
                                    0.0024999999441206455f,
                                    0.0007905694656074047f,
                                    0.0002500000118743628f,
                                    7.905694656074047e-05f};
    EXPECT_THAT(rope_inv_freq(config.rope, 16), Pointwise(SameFloat(), golden));
    EXPECT_EQ(config.max_positions, 8192);  // the key keeps the original context
}

TEST(Rope, ScalesAsYarn) {
    const ModelConfig config = read(
        10000, 256, R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64})");
    const std::vector<float> golden{1.0f,
                                    0.23717081546783447f,
                                    0.04999999701976776f,
                                    0.007905694656074047f,
                                    0.0024999999441206455f,
                                    0.0007905694656074047f,
                                    0.0002500000118743628f,
                                    7.905694656074047e-05f};
    EXPECT_THAT(rope_inv_freq(config.rope, 16), Pointwise(SameFloat(), golden));
    EXPECT_DOUBLE_EQ(config.rope.attention_factor, 1.138629436111989);
    EXPECT_EQ(config.max_positions, 256);  // 4 * 64
}

TEST(Rope, ReachesAsFarAsYarnStretches) {
    // Qwen2.5's model card: 32768 positions, stretched by 4.
    EXPECT_EQ(read(1e6, 32768,
                   R"({"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768})")
                  .max_positions,
              131072);
    // Without the original context the present one is taken for it.
    EXPECT_EQ(read(1e6, 32768, R"({"type": "yarn", "factor": 2})").rope.original_max_positions,
              32768);
}

TEST(Rope, TakesYarnsFactorForAttentionFromTheFile) {
    const auto factor = [](const char* scaling) {
        return read(10000, 64, scaling).rope.attention_factor;
    };
    const double derived = 0.1 * std::log(4.0) + 1;
    EXPECT_DOUBLE_EQ(factor(R"({"type": "yarn", "factor": 4})"), derived);
    EXPECT_DOUBLE_EQ(factor(R"({"type": "yarn", "factor": 1})"), 1);
    EXPECT_DOUBLE_EQ(factor(R"({"type": "yarn", "factor": 4, "attention_factor": 0.7})"), 0.7);
    EXPECT_DOUBLE_EQ(factor(R"({"type": "yarn", "factor": 4, "mscale": 2, "mscale_all_dim": 1})"),
                     (0.2 * std::log(4.0) + 1) / derived);
    EXPECT_DOUBLE_EQ(factor(R"({"type": "yarn", "factor": 4, "mscale": 2})"),
                     derived);  // both or none
}

TEST(Rope, TakesYarnsLimitsFromTheFile) {
    const RopeConfig rope =
        read(10000, 64, R"({"type": "yarn", "factor": 4, "beta_fast": 16, "beta_slow": 2})").rope;
    EXPECT_EQ(rope.beta_fast, 16);
    EXPECT_EQ(rope.beta_slow, 2);
    const RopeConfig usual =
        read(10000, 64, R"({"type": "yarn", "factor": 4, "beta_fast": 0, "beta_slow": null})").rope;
    EXPECT_EQ(usual.beta_fast, 32);
    EXPECT_EQ(usual.beta_slow, 1);
}

TEST(Rope, DividesByTheNumbersOfAGgufFileInPlaceOfTheRule) {
    RopeConfig rope;
    rope.scaling = RopeScaling::Llama3;
    rope.divisors = {1, 8};
    EXPECT_THAT(rope_inv_freq(rope, 4), testing::ElementsAre(FloatEq(1), FloatEq(0.01f / 8)));
}

}  // namespace
}  // namespace cake
