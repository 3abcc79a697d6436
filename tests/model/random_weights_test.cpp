// Weights of no file: the same model on every number of ranks.
#include "io/random_weights.h"

#include <cmath>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "model/model.h"
#include "support/backends.h"
#include "support/expect_error.h"
#include "support/golden.h"

namespace cake::test {
namespace {

using testing::Each;
using testing::HasSubstr;

const std::string kDown = "model.layers.1.mlp.down_proj.weight";

ModelConfig tiny(const std::string& model) { return read_model_config(golden_model(model)); }

// The numbers of the whole tensors at this rank's places.
std::vector<float> whole_at(const Checkpoint& weights, const Matrix& matrix) {
    std::vector<float> out;
    for (const Part& part : matrix.parts)
        for (std::int64_t r = part.rows.begin; r < part.rows.end; ++r)
            for (std::int64_t c = part.columns.begin; c < part.columns.end; ++c)
                out.push_back(weights.random_matrix(part.name)->at(r, c));
    return out;
}

TEST(RandomWeights, AreSlicesOfTheSameTensorsOnEveryRank) {
    const ModelConfig model = tiny("tiny-qwen2");
    const Checkpoint weights = random_checkpoint(model, 3);
    const auto dev = make_cpu_backend(2);
    for (const int ranks : {1, 3})
        for (int rank = 0; rank < ranks; ++rank) {
            const Shard shard = shard_of(model, ranks, rank);
            const Model m = load_model(*dev, weights, model, shard, DType::F32);
            EXPECT_EQ(download_floats(*dev, m.embedding),
                      whole_at(weights, embedding_matrix(model, shard)));
            EXPECT_THAT(download_floats(*dev, m.final_norm), Each(1));
            for (int l = 0; l < model.n_layers; ++l) {
                const LayerMatrices matrices = layer_matrices(model, shard, l);
                const LayerWeights& w = m.layers[std::size_t(l)];
                EXPECT_EQ(download_floats(*dev, w.qkv), whole_at(weights, matrices.qkv));
                EXPECT_EQ(download_floats(*dev, w.out), whole_at(weights, matrices.out));
                EXPECT_EQ(download_floats(*dev, w.gate_up), whole_at(weights, matrices.gate_up));
                EXPECT_EQ(download_floats(*dev, w.down), whole_at(weights, matrices.down));
                EXPECT_THAT(download_floats(*dev, w.attn_norm), Each(1));
                EXPECT_THAT(download_floats(*dev, w.qkv_bias), Each(0));
            }
        }
}

TEST(RandomWeights, HaveTheSpreadOfTrainedOnes) {
    const ModelConfig model = tiny("tiny-llama");
    const Checkpoint weights = random_checkpoint(model, 3);
    check_tensors(weights, model);
    const auto variance = [&](const std::string& name) {
        const RandomMatrix matrix = *weights.random_matrix(name);
        const Shape shape = weights.find(name)->shape;
        double sum = 0, squares = 0;
        for (std::int64_t r = 0; r < shape[0]; ++r)
            for (std::int64_t c = 0; c < shape[1]; ++c) {
                const double x = matrix.at(r, c);
                sum += x;
                squares += x * x;
            }
        const double n = double(shape.elements());
        EXPECT_NEAR(sum / n, 0, 0.02) << name;
        return squares / n;
    };
    EXPECT_NEAR(variance(kDown) * model.d_ff, 1, 0.05);
    EXPECT_NEAR(variance("model.layers.0.self_attn.q_proj.weight") * model.d_model, 9, 0.45);
}

TEST(RandomWeights, DifferByNameAndBySeed) {
    const ModelConfig model = tiny("tiny-llama");
    const Checkpoint weights = random_checkpoint(model, 3);
    const auto first = [&](const Checkpoint& from, const std::string& name) {
        return from.random_matrix(name)->at(0, 0);
    };
    EXPECT_NE(first(weights, kDown), first(weights, "model.layers.0.mlp.down_proj.weight"));
    EXPECT_NE(first(weights, kDown), first(random_checkpoint(model, 4), kDown));
    EXPECT_FALSE(weights.random_matrix("model.norm.weight"));  // a vector
}

TEST(RandomWeights, AreMadeAndNotRead) {
    const ModelConfig model = tiny("tiny-llama");
    const Tensor out = Tensor::host(DType::F32, {1, 4});
    EXPECT_THROW(random_checkpoint(model, 3).read(kDown, {0, 1}, {0, 4}, out), Error);
}

TEST(RandomWeights, AreOfNoQuantisedType) {
    const ModelConfig model = tiny("tiny-llama");
    const auto dev = make_cpu_backend(1);
    EXPECT_THAT(usage_message([&] {
                    load_model(*dev, random_checkpoint(model, 3), model, shard_of(model, 1, 0),
                               DType::Q8_0);
                }),
                HasSubstr("set model.dtype to"));
}

}  // namespace
}  // namespace cake::test
