// The engine over the CUDA backend, its kernels on the host, against captures of the official code: end to end, and host code
// that touches device memory ends the program (support/simt/memory.h). With F32 activations to the tolerances of the CPU.
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

class EmulatedEngine : public testing::TestWithParam<Case> {
protected:
    Golden golden{GetParam().model};

    void SetUp() override {
        if (const CudaDevices devices = cuda_devices(); devices.count == 0)
            GTEST_SKIP() << "no GPU: " << devices.why_none;
    }
    bool narrow() const { return GetParam().activations == DType::BF16; }

    // BF16 has 8 bits. On any number of ranks logits were off by 0.12 at most, statistics by 1.2 %, budgets by 2 tokens, and
    // 1.6 % of the kept tokens were others: about twice that is allowed.
    Closeness close() const {
        if (!narrow())
            return {};
        return {.logits = 0.25, .statistics = 0.025, .kept = 0.035, .budget = 3, .answers = false};
    }

    RunPrompt run() const {
        return [this](std::span<const TokenId> prompt, std::vector<Policy> policies) {
            RunSettings s;
            s.model = golden.model_path();
            s.policies = std::move(policies);
            s.prompt.assign(prompt.begin(), prompt.end());
            s.new_tokens = 32;
            s.chunk = 128;
            s.cache = GetParam().activations;
            s.backend = [type = s.cache] { return make_cuda_backend(0, type); };
            return run_model(GetParam().ranks, s);
        };
    }
};

TEST_P(EmulatedEngine, GivesTheLogitsAndTokensOfTheOfficialModel) {
    expect_official_answers(golden, close(), run());
}

TEST_P(EmulatedEngine, KeepsTheTokensOfTheOfficialCode) {
    if (golden.runs().empty())
        GTEST_SKIP() << "nothing was evicted in this model's captures";
    expect_official_evictions(golden, close(), run());
}

// Of each model and number of ranks, those that are quick enough together, and the rest.
bool is_quick(const Case& c) {
    if (c.ranks == 1)
        return c.activations == DType::F32 || c.model == "tiny-llama" || c.model == "tiny-qwen2";
    // tiny-qwen2 has biases, and two KV heads, which three ranks share.
    return c.model == "tiny-qwen2" || (c.model == "tiny-llama" && c.ranks == 2);
}

std::vector<Case> cases(bool quick) {
    std::vector<Case> out;
    for (const std::string model : {"tiny-llama", "tiny-mistral", "tiny-qwen2", "tiny-llama-bf16",
                                    "tiny-llama31", "tiny-llama-linear", "tiny-qwen2-yarn"})
        for (int ranks = 1; ranks <= 3; ++ranks)
            for (const DType type : {DType::F32, DType::BF16})
                if (is_quick({model, ranks, type}) == quick)
                    out.push_back({model, ranks, type});
    return out;
}

INSTANTIATE_TEST_SUITE_P(Models, EmulatedEngine, testing::ValuesIn(cases(true)), case_name);
INSTANTIATE_TEST_SUITE_P(Rest, EmulatedEngine, testing::ValuesIn(cases(false)), case_name);

}  // namespace
}  // namespace cake::test
