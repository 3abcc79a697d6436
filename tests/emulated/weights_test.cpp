// Weights on a backend that multiplies by one type: widened to it as they are read, whatever the file has.
#include <gtest/gtest.h>

#include "engine/plan.h"
#include "kernels/cuda/cuda_backend.h"
#include "model/model.h"
#include "support/backends.h"
#include "support/golden.h"
#include "support/temp_folder.h"
#include "support/tiny_files.h"

namespace cake::test {
namespace {

class EmulatedWeights : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(, EmulatedWeights,
                         testing::Values(DType::F32, DType::F16, DType::BF16, DType::Q4_1,
                                         DType::Q8_0, DType::Q6_K),
                         [](const auto& info) { return std::string(name(info.param)); });

// The matrix as the reader widens it on the host.
std::vector<float> as_read(const Checkpoint& checkpoint, const Matrix& matrix) {
    std::vector<float> out;
    for (const Part& part : matrix.parts) {
        const Tensor rows =
            Tensor::host(DType::BF16, {part.rows.size(), std::max(part.columns.size(), 1L)});
        checkpoint.read(part.name, part.rows, part.columns, rows);
        for (const bf16 x : rows.span<bf16>())
            out.push_back(to_float(x));
    }
    return out;
}

TEST_P(EmulatedWeights, AreBf16AndAsManyBytesAsThePlanSays) {
    const TempFolder folder;
    RunConfig run;
    run.model.path = write_gguf(folder, random_tiny(true, GetParam()));
    const ModelConfig config = read_model_config(run.model.path);
    const Checkpoint checkpoint = Checkpoint::open(run.model.path);
    const auto dev = make_cuda_backend(0);
    const PlanInput plan = plan_input(run, config, 2, 10, 1, dev->types());
    EXPECT_EQ(plan.cache, DType::BF16);
    EXPECT_EQ(plan.residual, DType::BF16);
    for (int rank : {0, 1}) {
        const Shard shard = shard_of(config, 2, rank);
        const Model m = load_model(*dev, checkpoint, config, shard, plan.weights);
        EXPECT_EQ(m.weight_bytes(), plan_rank(plan, rank).weights);
        EXPECT_EQ(m.layers[0].attn_norm.dtype(), DType::F32);
        EXPECT_EQ(m.layers[0].qkv_bias.dtype(), DType::BF16);
        EXPECT_EQ(download_floats(*dev, m.embedding),
                  as_read(checkpoint, embedding_matrix(config, shard)));
        for (int l = 0; l < config.n_layers; ++l) {
            const LayerMatrices matrices = layer_matrices(config, shard, l);
            const LayerWeights& w = m.layers[std::size_t(l)];
            EXPECT_EQ(w.qkv.dtype(), DType::BF16);
            EXPECT_EQ(download_floats(*dev, w.qkv), as_read(checkpoint, matrices.qkv));
            EXPECT_EQ(download_floats(*dev, w.out), as_read(checkpoint, matrices.out));
            EXPECT_EQ(download_floats(*dev, w.gate_up), as_read(checkpoint, matrices.gate_up));
            EXPECT_EQ(download_floats(*dev, w.down), as_read(checkpoint, matrices.down));
        }
    }
}

TEST(EmulatedWeightTypes, RefuseAnotherTypeThanTheBackends) {
    ModelConfig config;
    EXPECT_EQ(requested_types(config, "auto", "", DType::BF16).all(), DType::BF16);
    EXPECT_EQ(requested_types(config, "bf16", "", DType::BF16).all(), DType::BF16);
    EXPECT_THROW(requested_types(config, "f32", "", DType::BF16), Error);
}

TEST(EmulatedRandomWeights, AreThoseOfTheCpu) {
    const ModelConfig config = read_model_config(golden_model("tiny-llama"));
    const Checkpoint weights = random_checkpoint(config, 3);
    const auto gpu = make_cuda_backend(0), cpu = make_cpu_backend(1);
    const Shard shard = shard_of(config, 2, 1);
    const Model a = load_model(*gpu, weights, config, shard, DType::BF16),
                b = load_model(*cpu, weights, config, shard, DType::BF16);
    EXPECT_EQ(download_floats(*gpu, a.lm_head()), download_floats(*cpu, b.lm_head()));
    for (int l = 0; l < config.n_layers; ++l) {
        const LayerWeights &x = a.layers[std::size_t(l)], &y = b.layers[std::size_t(l)];
        EXPECT_EQ(download_floats(*gpu, x.qkv), download_floats(*cpu, y.qkv));
        EXPECT_EQ(download_floats(*gpu, x.down), download_floats(*cpu, y.down));
        EXPECT_EQ(download_floats(*gpu, x.attn_norm), download_floats(*cpu, y.attn_norm));
    }
}

}  // namespace
}  // namespace cake::test
