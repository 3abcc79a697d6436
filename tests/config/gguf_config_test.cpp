#include <gmock/gmock.h>

#include "config/model_config.h"
#include "io/gguf.h"
#include "support/expect_error.h"
#include "support/gguf_writer.h"
#include "support/temp_folder.h"

namespace cake {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A model of one layer; tests add to it what they are about.
GgufWriter tiny(const std::string& architecture = "llama", std::uint32_t layers = 1) {
    GgufWriter writer;
    writer.string("general.architecture", architecture);
    for (const auto& [key, value] :
         std::vector<std::pair<std::string, std::uint32_t>>{{"block_count", layers},
                                                            {"embedding_length", 32},
                                                            {"feed_forward_length", 24},
                                                            {"context_length", 64},
                                                            {"attention.head_count", 4}})
        writer.integer(architecture + "." + key, value);
    writer.tensor("token_embd.weight", {10, 32}, std::vector<float>(320));
    return writer;
}

ModelConfig read(const GgufWriter& writer) {
    const TempFolder folder;
    writer.write(folder.file("m.gguf"));
    return read_model_config(folder.file("m.gguf"));
}

std::string complaint(const GgufWriter& writer) {
    return usage_message([&] { read(writer); });
}

TEST(GgufConfig, ReadsSizesAndFillsInTheRest) {
    const ModelConfig config = read(tiny());
    EXPECT_EQ(config.architecture, "llama");
    EXPECT_EQ(config.name, "m.gguf");
    EXPECT_EQ(config.n_layers, 1);
    EXPECT_EQ(config.d_model, 32);
    EXPECT_EQ(config.n_heads, 4);
    EXPECT_EQ(config.n_kv_heads, 4);
    EXPECT_EQ(config.d_head, 8);
    EXPECT_EQ(config.d_ff, 24);
    EXPECT_EQ(config.vocab, 10);  // rows of the embedding
    EXPECT_EQ(config.max_positions, 64);
    EXPECT_EQ(config.rope.theta, 10000);
    EXPECT_EQ(config.rope.scaling, RopeScaling::None);
    EXPECT_EQ(config.dtype, DType::F32);
    EXPECT_FALSE(config.qkv_bias);
    EXPECT_TRUE(config.tied_head);
}

TEST(GgufConfig, ReadsWhatIsSaid) {
    GgufWriter writer = tiny("qwen2");
    writer.string("general.name", "Qwen");
    writer.integer("qwen2.attention.head_count_kv", 2);
    writer.integer("qwen2.attention.key_length", 16);
    writer.integer("qwen2.attention.value_length", 16);
    writer.number("qwen2.attention.layer_norm_rms_epsilon", 1e-6f);
    writer.number("qwen2.rope.freq_base", 1e6f);
    writer.tensor("output.weight", {10, 32}, std::vector<float>(320));
    writer.tensor("blk.0.attn_q.bias", {64}, std::vector<float>(64));
    const ModelConfig config = read(writer);
    EXPECT_EQ(config.architecture, "qwen2");
    EXPECT_EQ(config.name, "Qwen");
    EXPECT_EQ(config.n_kv_heads, 2);
    EXPECT_EQ(config.d_head, 16);
    EXPECT_FLOAT_EQ(config.rms_eps, 1e-6f);
    EXPECT_EQ(config.rope.theta, 1e6);
    EXPECT_TRUE(config.qkv_bias);
    EXPECT_FALSE(config.tied_head);
}

TEST(GgufConfig, TakesTheTypeThatHoldsMostBytes) {
    GgufWriter writer = tiny();
    writer.tensor("blk.0.ffn_up.weight", DType::BF16, {100, 32}, std::vector<std::byte>(6400));
    EXPECT_EQ(read(writer).dtype, DType::BF16);
}

TEST(GgufConfig, ReadsTheDivisorsOfLlama31) {
    GgufWriter writer = tiny();
    writer.tensor("rope_freqs.weight", {4}, std::vector<float>{1, 1, 4, 8});
    const ModelConfig config = read(writer);
    EXPECT_EQ(config.rope.scaling, RopeScaling::Llama3);
    EXPECT_THAT(config.rope.divisors, ElementsAre(1, 1, 4, 8));

    GgufWriter wrong = tiny();
    wrong.tensor("rope_freqs.weight", {3}, std::vector<float>{1, 1, 4});
    EXPECT_THAT(complaint(wrong), HasSubstr("rope_freqs.weight holds [3] f32"));
    GgufWriter zero = tiny();
    zero.tensor("rope_freqs.weight", {4}, std::vector<float>{1, 1, 4, 0});
    EXPECT_THAT(complaint(zero), HasSubstr("rope_freqs.weight holds 0"));
}

TEST(GgufConfig, ReadsLinearAndYarnScaling) {
    GgufWriter linear = tiny();
    linear.string("llama.rope.scaling.type", "linear");
    linear.number("llama.rope.scaling.factor", 4);
    EXPECT_EQ(read(linear).rope.scaling, RopeScaling::Linear);
    EXPECT_EQ(read(linear).max_positions, 256);

    GgufWriter legacy = tiny();
    legacy.number("llama.rope.scale_linear", 2);
    EXPECT_EQ(read(legacy).rope.scaling, RopeScaling::Linear);
    EXPECT_EQ(read(legacy).rope.factor, 2);

    GgufWriter yarn = tiny();
    yarn.string("llama.rope.scaling.type", "yarn");
    yarn.number("llama.rope.scaling.factor", 4);
    yarn.integer("llama.rope.scaling.original_context_length", 32);
    const RopeConfig rope = read(yarn).rope;
    EXPECT_EQ(rope.scaling, RopeScaling::Yarn);
    EXPECT_EQ(rope.original_max_positions, 32);
    EXPECT_NEAR(rope.attention_factor, 1.138629436111989, 1e-12);

    GgufWriter unknown = tiny();
    unknown.string("llama.rope.scaling.type", "longrope");
    EXPECT_THAT(complaint(unknown),
                HasSubstr("rope.scaling.type is 'longrope'; supported are none, linear and yarn"));
}

TEST(GgufConfig, RefusesWhatItDoesNotCompute) {
    EXPECT_THAT(complaint(tiny("gemma")),
                HasSubstr("'gemma' is not supported; supported are llama and qwen2"));
    EXPECT_THAT(complaint(tiny("llama", 0)),
                HasSubstr("llama.block_count is 0; a number from 1 to"));
    EXPECT_THAT(complaint(GgufWriter()), HasSubstr("general.architecture is missing"));

    GgufWriter experts = tiny();
    experts.integer("llama.expert_count", 8);
    EXPECT_THAT(complaint(experts),
                HasSubstr("llama.expert_count is 8; models with experts are not supported"));
    GgufWriter partial = tiny();
    partial.integer("llama.rope.dimension_count", 4);
    EXPECT_THAT(complaint(partial), HasSubstr("only whole heads (8)"));
    GgufWriter bias = tiny();
    bias.tensor("blk.0.attn_output.bias", {32}, std::vector<float>(32));
    EXPECT_THAT(complaint(bias), HasSubstr("a bias on the output of attention"));
}

}  // namespace
}  // namespace cake
