// Weights that stay as the file has them: which types a rank holds, how many bytes, and what they compute.
#include <gtest/gtest.h>

#include "support/reference_dequant.h"
#include "support/run_model.h"
#include "support/temp_folder.h"
#include "support/tiny_files.h"

namespace cake::test {
namespace {

Model load(const std::string& path, int ranks, int rank, const WeightTypes& types) {
    const ModelConfig config = read_model_config(path);
    auto dev = make_cpu_backend(1);
    return load_model(*dev, Checkpoint::open(path), config, shard_of(config, ranks, rank), types);
}

WeightTypes stored_types(const std::string& path) {
    return requested_types(read_model_config(path), "auto", path);
}

bool splits_blocks(Range columns, DType dtype) {
    const int block = traits(dtype).block_elements;
    return columns.begin % block != 0 || columns.end % block != 0;
}

class WeightTypesOf : public testing::TestWithParam<DType> {};
INSTANTIATE_TEST_SUITE_P(, WeightTypesOf, testing::ValuesIn(weight_types),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST_P(WeightTypesOf, StayButWhereAShardSplitsBlocksAndThePlanKnows) {
    for (bool qwen2 : {false, true}) {
        const TempFolder folder;
        const std::string path = write_gguf(folder, random_tiny(qwen2, GetParam()));
        const WeightTypes types = stored_types(path);
        EXPECT_EQ(types.main(), GetParam());
        EXPECT_EQ(types.all(), GetParam());
        for (int ranks : {1, 2, 3, 4})
            for (int rank = 0; rank < ranks; ++rank) {
                SCOPED_TRACE(fmt::format("rank {} of {}", rank, ranks));
                const Model m = load(path, ranks, rank, types);
                EXPECT_EQ(m.weight_bytes(), model_bytes(m.config, m.shard, types));
                const Range heads{m.shard.q_heads.begin * m.config.d_head,
                                  m.shard.q_heads.end * m.config.d_head};
                for (const LayerWeights& w : m.layers) {
                    EXPECT_EQ(w.qkv.dtype(), GetParam());
                    EXPECT_EQ(w.gate_up.dtype(), GetParam());
                    EXPECT_EQ(w.out.dtype(),
                              splits_blocks(heads, GetParam()) ? DType::BF16 : GetParam());
                    EXPECT_EQ(w.down.dtype(),
                              splits_blocks(m.shard.ff, GetParam()) ? DType::BF16 : GetParam());
                }
                EXPECT_EQ(m.lm_head().dtype(), GetParam());
                EXPECT_EQ(m.embedding.dtype(), GetParam());
            }
    }
}

// One rank splits nothing: only the order of sums differs. Several widen some matrices to bf16.
TEST_P(WeightTypesOf, ComputeWhatTheirNumbersDoAsF32) {
    const TempFolder folder;
    RunSettings s;
    s.model = write_gguf(folder, random_tiny(false, GetParam()));
    s.policies = {full_policy()};
    for (int i = 0; i < 100; ++i)  // more rows than go to the kernels of few
        s.prompt.push_back((i * i + 5 * i + 1) % 96);
    s.new_tokens = 3;
    for (int ranks : {1, 2, 3}) {
        SCOPED_TRACE(std::to_string(ranks) + " ranks");
        s.weights = DType::F32;
        const RunOutcome wide = run_model(ranks, s)[0];
        s.weights = stored_types(s.model);
        const RunOutcome narrow = run_model(ranks, s)[0];
        // Columns cut within a block are rounded to bf16, and that shows; nothing else may.
        bool exact = true;
        for (int r = 0; r < ranks; ++r)
            for (const LayerWeights& w : load(s.model, ranks, r, s.weights).layers)
                exact &= w.out.dtype() == GetParam() && w.down.dtype() == GetParam();
        EXPECT_TRUE(exact || ranks > 1);
        for (std::size_t i = 0; i < wide.logits[0].size(); ++i)
            ASSERT_NEAR(narrow.logits[0][i], wide.logits[0][i], exact ? 1e-4 : 0.1);
    }
}

TEST(WeightTypes, OfPartsThatDifferMakeABf16Matrix) {
    const TempFolder folder;
    const std::string path = write_gguf(folder, random_tiny(false, DType::Q4_1, DType::Q8_0));
    const WeightTypes types = stored_types(path);
    EXPECT_EQ(types.main(), DType::Q4_1);
    EXPECT_EQ(types.all(), std::nullopt);
    for (int rank : {0, 1}) {
        const Model m = load(path, 2, rank, types);
        EXPECT_EQ(m.layers[0].qkv.dtype(), DType::BF16);
        EXPECT_EQ(m.layers[0].gate_up.dtype(), DType::Q4_1);
        EXPECT_EQ(m.weight_bytes(), model_bytes(m.config, m.shard, types));
    }
}

TEST(WeightTypes, OfPartsOfWhichOneIsF32AreF32WhichIsExact) {
    const TempFolder folder;
    const std::string path = write_gguf(folder, random_tiny(false, DType::Q8_0, DType::F32));
    EXPECT_EQ(load(path, 1, 0, stored_types(path)).layers[1].qkv.dtype(), DType::F32);
}

TEST(WeightTypes, OfAnF32OrBf16RequestAreThatType) {
    const TempFolder folder;
    const std::string path = write_gguf(folder, random_tiny(true, DType::Q5_K));
    for (DType dtype : {DType::F32, DType::BF16}) {
        const WeightTypes types =
            requested_types(read_model_config(path), std::string(name(dtype)), path);
        const Model m = load(path, 2, 1, types);
        EXPECT_EQ(m.layers[0].qkv.dtype(), dtype);
        EXPECT_EQ(m.embedding.dtype(), dtype);
        EXPECT_EQ(m.weight_bytes(), model_bytes(m.config, m.shard, types));
    }
    EXPECT_THROW(requested_types(read_model_config(path), "f16", path), Error);
}

TEST(WeightTypes, OfAConfigurationWithoutWeightsAreWhatItSays) {
    ModelConfig config;
    config.dtype = DType::BF16;
    EXPECT_EQ(requested_types(config, "auto", "").all(), DType::BF16);
}

TEST(WeightTypes, DecideTheTypeOfTheCache) {
    for (const auto& [weights, cache] :
         {std::pair(DType::F32, DType::F32), std::pair(DType::F16, DType::BF16),
          std::pair(DType::Q4_1, DType::F32)}) {
        const TempFolder folder;
        RunConfig config;
        config.model.path = write_gguf(folder, random_tiny(false, weights));
        const ModelConfig model = read_model_config(config.model.path);
        const PlanInput plan = plan_input(config, model, 1, 10, 1);
        EXPECT_EQ(plan.cache, cache);
        EXPECT_EQ(resolved_config(config, plan).model.dtype,
                  weights == DType::F32 ? "f32" : "auto");
    }
}

}  // namespace
}  // namespace cake::test
