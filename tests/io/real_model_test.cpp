// The GGUF of SmolLM2-135M-Instruct (Q4_1), where it is installed.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gmock/gmock.h>

#include "io/checkpoint.h"
#include "io/gguf.h"

namespace cake {
namespace {

std::string model_path() {
    if (const char* path = std::getenv("CAKE_TEST_MODEL"))
        return path;
    const char* home = std::getenv("HOME");
    return std::string(home ? home : "") + "/.cache/cake/models/SmolLM2-135M-Instruct.Q4_1.gguf";
}

class RealModel : public testing::Test {
protected:
    void SetUp() override {
        if (!std::filesystem::exists(model_path()))
            GTEST_SKIP() << "no model at " << model_path() << "; set CAKE_TEST_MODEL";
    }
};

TEST_F(RealModel, HasTheTensorsOfItsArchitecture) {
    const Checkpoint checkpoint = Checkpoint::open(model_path());
    EXPECT_EQ(checkpoint.tensors().size(), 272u);  // 30 layers of 9, embedding, final norm
    const auto shape = [&](const std::string& tensor) {
        const TensorInfo* info = checkpoint.find(tensor);
        return info ? std::string(name(info->dtype)) + " " + info->shape.str() : "absent";
    };
    EXPECT_EQ(shape("model.embed_tokens.weight"), "q8_0 [49152, 576]");
    EXPECT_EQ(shape("model.norm.weight"), "f32 [576]");
    EXPECT_EQ(shape("lm_head.weight"), "absent");  // tied to the embedding
    for (int l = 0; l < 30; ++l) {
        const std::string layer = fmt::format("model.layers.{}.", l);
        EXPECT_EQ(shape(layer + "input_layernorm.weight"), "f32 [576]");
        EXPECT_EQ(shape(layer + "self_attn.q_proj.weight"), "q4_1 [576, 576]");
        EXPECT_EQ(shape(layer + "self_attn.k_proj.weight"), "q4_1 [192, 576]");
        EXPECT_EQ(shape(layer + "self_attn.v_proj.weight"), "q4_1 [192, 576]");
        EXPECT_EQ(shape(layer + "self_attn.o_proj.weight"), "q4_1 [576, 576]");
        EXPECT_EQ(shape(layer + "post_attention_layernorm.weight"), "f32 [576]");
        EXPECT_EQ(shape(layer + "mlp.gate_proj.weight"), "q4_1 [1536, 576]");
        EXPECT_EQ(shape(layer + "mlp.up_proj.weight"), "q4_1 [1536, 576]");
        EXPECT_EQ(shape(layer + "mlp.down_proj.weight"), "q4_1 [576, 1536]");
    }
}

TEST_F(RealModel, HoldsMetadataAndVocabulary) {
    const Checkpoint checkpoint = Checkpoint::open(model_path());
    ASSERT_NE(checkpoint.gguf(), nullptr);
    const GgufFile& gguf = *checkpoint.gguf();
    EXPECT_EQ(gguf.string("general.architecture"), "llama");
    EXPECT_EQ(gguf.integer("llama.attention.head_count"), 9);
    EXPECT_EQ(gguf.integer("llama.attention.head_count_kv"), 3);
    EXPECT_NEAR(*gguf.number("llama.rope.freq_base"), 1e5, 1e-3);
    ASSERT_NE(gguf.strings("tokenizer.ggml.tokens"), nullptr);
    EXPECT_EQ(gguf.strings("tokenizer.ggml.tokens")->size(), 49152u);
}

TEST_F(RealModel, ReadsAllWeightsAsFiniteNumbers) {
    const Checkpoint checkpoint = Checkpoint::open(model_path());
    for (const TensorInfo& info : checkpoint.tensors()) {
        Tensor out = Tensor::host(DType::F32, info.shape);
        const std::int64_t columns = info.shape.rank() > 1 ? info.shape[1] : 0;
        checkpoint.read(info.name, {0, info.shape[0]}, {0, columns}, out);
        double squares = 0;
        for (float x : out.span<float>())
            squares += double(x) * x;
        const double root_mean_square = std::sqrt(squares / double(info.shape.elements()));
        EXPECT_TRUE(root_mean_square > 1e-3 && root_mean_square < 100)
            << info.name << " " << root_mean_square;
    }
}

}  // namespace
}  // namespace cake
