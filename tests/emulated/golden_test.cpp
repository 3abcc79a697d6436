// The engine over the CUDA backend against captures of the official code, end to end: with its kernels on the host
// (test_engine_emulated), where host code that touches device memory ends the program (support/simt/memory.h), and on a GPU
// (test_engine_cuda). With F32 activations to the tolerances of the CPU.
#include <ostream>

#include <gtest/gtest.h>

#include "kernels/cuda/cuda_backend.h"
#include "support/golden_checks.h"

namespace cake::test {
namespace {

struct Case {
    std::string model;
    int ranks;
    DType activations;
};

void PrintTo(const Case& c, std::ostream* out) {
    *out << c.model << " on " << c.ranks << " ranks in " << name(c.activations);
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
    std::string text = fmt::format("{}_{}_ranks_{}", info.param.model, info.param.ranks,
                                   name(info.param.activations));
    std::replace(text.begin(), text.end(), '-', '_');
    return text;
}

class CudaEngine : public testing::TestWithParam<Case> {
protected:
    Golden golden{GetParam().model};

    bool narrow() const { return GetParam().activations == DType::BF16; }

    // BF16 has 8 bits. Measured on the emulation, on any number of ranks, over all captured tokens: logits were off by 0.24 at
    // most (0.12 before the first token), statistics by 1.2 %, budgets by 2 tokens, and of the kept tokens 1.6 % were others
    // after prefill, 8.6 % after decoding.
    Closeness close() const {
        if (!narrow())
            return {};
        return {.logits = 0.25,
                .statistics = 0.025,
                .kept = 0.035,
                .kept_at_end = 0.15,
                .budget = 3,
                .answers = false};
    }

    RunPrompt run() const {
        return [this](std::span<const TokenId> prompt, std::vector<Policy> policies,
                      std::vector<std::vector<TokenId>> answers) {
            RunSettings s;
            s.model = golden.model_path();
            s.policies = std::move(policies);
            s.prompt.assign(prompt.begin(), prompt.end());
            s.answers = std::move(answers);
            s.new_tokens = 32;
            s.chunk = 128;
            s.cache = GetParam().activations;
            s.backend = [type = s.cache] { return make_cuda_backend(0, type); };
            return run_model(GetParam().ranks, s);
        };
    }
};

TEST_P(CudaEngine, GivesTheLogitsAndTokensOfTheOfficialModel) {
    expect_official_answers(golden, close(), run());
}

class CudaEngineEvictions : public CudaEngine {};

TEST_P(CudaEngineEvictions, KeepsTheTokensOfTheOfficialCode) {
    expect_official_evictions(golden, close(), run());
}

// Of each model and number of ranks, those that are quick enough together, and the rest.
bool is_quick(const Case& c) {
    if (c.ranks == 1)
        return c.activations == DType::F32 || c.model == "tiny-llama" || c.model == "tiny-qwen2";
    // tiny-qwen2 has biases, and two KV heads, which three ranks share.
    return c.model == "tiny-qwen2" || (c.model == "tiny-llama" && c.ranks == 2);
}

std::vector<Case> cases(const std::vector<std::string>& models, bool quick) {
    std::vector<Case> out;
    for (const std::string& model : models)
        for (int ranks = 1; ranks <= 3; ++ranks)
            for (const DType type : {DType::F32, DType::BF16})
                if (is_quick({model, ranks, type}) == quick)
                    out.push_back({model, ranks, type});
    return out;
}

const std::vector<std::string> kModels = {"tiny-llama",      "tiny-mistral", "tiny-qwen2",
                                          "tiny-llama-bf16", "tiny-llama31", "tiny-llama-linear",
                                          "tiny-qwen2-yarn"};
// Those in whose captures the official code evicted.
const std::vector<std::string> kEvictions = {"tiny-llama", "tiny-mistral", "tiny-qwen2",
                                             "tiny-llama31"};

INSTANTIATE_TEST_SUITE_P(Models, CudaEngine, testing::ValuesIn(cases(kModels, true)), case_name);
INSTANTIATE_TEST_SUITE_P(Rest, CudaEngine, testing::ValuesIn(cases(kModels, false)), case_name);
INSTANTIATE_TEST_SUITE_P(Models, CudaEngineEvictions, testing::ValuesIn(cases(kEvictions, true)),
                         case_name);
INSTANTIATE_TEST_SUITE_P(Rest, CudaEngineEvictions, testing::ValuesIn(cases(kEvictions, false)),
                         case_name);

}  // namespace
}  // namespace cake::test
