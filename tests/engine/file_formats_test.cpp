// One model in every kind of file: what is read back computes what the original does, to the bit.
#include <array>
#include <bit>
#include <cmath>

#include <gtest/gtest.h>

#include "support/golden.h"
#include "support/reference_dequant.h"
#include "support/run_model.h"
#include "support/temp_folder.h"
#include "support/tiny_files.h"

namespace cake::test {
namespace {

RunOutcome run(const std::string& path, int ranks) {
    RunSettings s;
    s.model = path;
    s.policies = {full_policy()};
    const ModelConfig config = read_model_config(path);
    for (int i = 0; i < 24; ++i)
        s.prompt.push_back((i * i + 5 * i + 1) % config.vocab);
    s.new_tokens = 3;
    return run_model(ranks, s)[0];
}

void expect_same_bits(const RunOutcome& a, const RunOutcome& b) {
    EXPECT_EQ(a.tokens, b.tokens);
    ASSERT_EQ(a.logits.size(), b.logits.size());
    for (std::size_t t = 0; t < a.logits.size(); ++t) {
        ASSERT_EQ(a.logits[t].size(), b.logits[t].size());
        std::size_t different = 0;
        for (std::size_t i = 0; i < a.logits[t].size(); ++i)
            different += std::bit_cast<std::uint32_t>(a.logits[t][i]) !=
                         std::bit_cast<std::uint32_t>(b.logits[t][i]);
        EXPECT_EQ(different, 0u) << "of " << a.logits[t].size() << " logits of token " << t;
        EXPECT_TRUE(std::ranges::all_of(a.logits[t], [](float x) { return std::isfinite(x); }));
    }
}

TEST(FileFormats, ShardsOfMixedTypesComputeWhatOneF32FileOfTheSameNumbersDoes) {
    for (const char* name : {"tiny-llama", "tiny-qwen2"}) {
        SCOPED_TRACE(name);
        TinyModel model = golden_tiny(name);
        constexpr std::array types = {DType::BF16, DType::F32, DType::F16, DType::BF16, DType::F32};
        for (std::size_t i = 0; i < model.weights.size(); ++i) {
            Weight& w = model.weights[i];
            w = plain_weight(w.name, w.shape, w.values, types[i % types.size()]);
        }
        const TempFolder one, several;
        write_f32_folder(one, model);
        write_shards(several, model, 3);
        for (int ranks : {1, 2, 6})
            expect_same_bits(run(one.path(), ranks), run(several.path(), ranks));
    }
}

TEST(FileFormats, F32InShardsOrGgufOrPartsOfItComputesWhatTheOriginalDoes) {
    for (const char* name : {"tiny-llama", "tiny-qwen2"}) {
        SCOPED_TRACE(name);
        const TinyModel model = golden_tiny(name);
        const TempFolder shards, gguf, split;
        const std::vector<std::string> copies{write_shards(shards, model, 2),
                                              write_gguf(gguf, model), write_gguf(split, model, 3)};
        for (int ranks : {1, 2, 6}) {
            const RunOutcome original = run(golden_model(name), ranks);
            for (const std::string& copy : copies) {
                SCOPED_TRACE(copy);
                expect_same_bits(original, run(copy, ranks));
            }
        }
    }
}

// Frequencies differ from those of the folder in their last bit, so logits do.
TEST(FileFormats, GgufSpellsScaledRopeInItsOwnWayAndMeansTheSame) {
    for (const char* name : {"tiny-llama31", "tiny-llama-linear", "tiny-qwen2-yarn"}) {
        SCOPED_TRACE(name);
        const TempFolder gguf, split;
        const TinyModel model = golden_tiny(name);
        const Golden golden(name);
        RunSettings s;
        s.policies = {full_policy()};
        s.prompt = golden.prompt(golden.index()["prompts"].begin().key());
        s.new_tokens = 8;
        s.model = golden.model_path();
        const RunOutcome original = run_model(1, s)[0];
        for (const std::string& path : {write_gguf(gguf, model), write_gguf(split, model, 3)}) {
            s.model = path;
            const RunOutcome copy = run_model(1, s)[0];
            EXPECT_EQ(copy.tokens, original.tokens);
            for (std::size_t t = 0; t < copy.logits.size(); ++t)
                for (std::size_t i = 0; i < copy.logits[t].size(); ++i)
                    ASSERT_NEAR(copy.logits[t][i], original.logits[t][i], 1e-4);
        }
    }
}

class FileFormatsOfType : public testing::TestWithParam<DType> {};

TEST_P(FileFormatsOfType, GgufComputesWhatItsNumbersDoAsF32) {
    for (bool qwen2 : {false, true}) {
        SCOPED_TRACE(qwen2 ? "qwen2" : "llama");
        const TinyModel model = random_tiny(qwen2, GetParam());
        const TempFolder folder, whole, split;
        write_f32_folder(folder, model);
        const std::string gguf = write_gguf(whole, model), parts = write_gguf(split, model, 4);
        for (int ranks : {1, 2, 4}) {
            SCOPED_TRACE(std::to_string(ranks) + " ranks");
            const RunOutcome original = run(folder.path(), ranks);
            expect_same_bits(original, run(gguf, ranks));
            if (ranks == 2)
                expect_same_bits(original, run(parts, ranks));
        }
    }
}

INSTANTIATE_TEST_SUITE_P(, FileFormatsOfType, testing::ValuesIn(weight_types),
                         [](const auto& info) { return std::string(name(info.param)); });

}  // namespace
}  // namespace cake::test
